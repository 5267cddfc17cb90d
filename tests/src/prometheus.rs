//! A real Prometheus beside a kordon: with the scrape configuration and the alert rules that are
//! shipped, at a rate for tests.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{lab::Namespace, router::Router};

const ADDRESS: &str = "127.0.0.1:9090";

/// Killed when dropped.
#[derive(Debug)]
pub struct Prometheus<'a> {
    child: Child,
    namespace: &'a Namespace,
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One series of an answer: its labels, and its value.
pub type Sample = (BTreeMap<String, String>, f64);

impl<'a> Prometheus<'a> {
    /// Starts one that scrapes each second; `None`, with a word, where it is not installed.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(router: &'a Router) -> Result<Option<Self>> {
        if Command::new("prometheus")
            .arg("--version")
            .output()
            .is_err()
        {
            println!("SKIPPED: `prometheus` is not installed: `apt install prometheus`");
            return Ok(None);
        }
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus");
        // The example that is shipped, at a rate for a test.
        let scrape = include_str!("../../deploy/prometheus/scrape.yml").replace("15s", "1s");
        let rules = deploy.join("alerts.yml").canonicalize()?;
        let rules = rules.display();
        router.write(
            "prometheus.yml",
            format!("global: {{evaluation_interval: 1s}}\nrule_files: [\"{rules}\"]\n{scrape}"),
        )?;
        let file = router.path("prometheus.yml");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                router.path("tsdb").display()
            ))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let namespace = &router.wire.namespace;
        let child = namespace.spawn(&mut command)?;
        Ok(Some(Self { child, namespace }))
    }

    /// `data` of its answer to a question of its HTTP API.
    ///
    /// # Errors
    /// If it does not answer (yet), or refuses the question.
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "5", "-G"]);
        command.arg(format!("http://{ADDRESS}/api/v1/{path}"));
        for (name, value) in parameters {
            command.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        let mut answer: Value = serde_json::from_str(&self.namespace.output(&mut command)?)?;
        ensure!(
            answer["status"] == "success",
            "{path} {parameters:?}: {answer}"
        );
        Ok(answer["data"].take())
    }

    /// What a query gives now, series by series.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn query(&self, promql: &str) -> Result<Vec<Sample>> {
        let data = self.ask("query", &[("query", promql)])?;
        let series = data["result"]
            .as_array()
            .context("a query has a list of results")?;
        let sample = |series: &Value| {
            let value = series["value"][1].as_str().context("a value")?;
            let labels = serde_json::from_value(series["metric"].clone())?;
            Ok((labels, value.parse().context("a number")?))
        };
        series.iter().map(sample).collect()
    }
}

//! The demo's claims hold, and nothing is left of it.

use std::process::Command;

use anyhow::{Context as _, Result};
use kordon_tests::controller::binary;
use serde_json::Value;

#[test]
fn every_claim_of_the_demo_holds() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let output = Command::new(env!("CARGO_BIN_EXE_kordon-demo"))
        .arg("--kordon")
        .arg(binary)
        .arg("--json")
        .output()
        .context("cannot run the demo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = String::from_utf8_lossy(&output.stdout);
    let claims: Value = serde_json::from_str(last.lines().last().unwrap_or_default())
        .with_context(|| format!("{said}{last}"))?;
    let claims = claims.as_object().context("an object")?;
    assert!(claims.len() > 8, "{claims:?}");
    for (claim, holds) in claims {
        assert_eq!(holds, true, "{claim}\n{said}");
    }
    assert!(output.status.success());
    Ok(())
}

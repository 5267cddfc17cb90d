//! What was measured: one case as `--json` prints it, and tables for people.

use serde::Serialize;

/// One measured case. The fields are those of `--json`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) group: &'static str,
    pub(super) case: String,
    pub(super) unit: &'static str,
    pub(super) median: f64,
    pub(super) mean: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) runs: usize,
}

impl Measured {
    /// From what the rounds gave; there is at least one.
    pub(super) fn of(
        group: &'static str,
        case: impl Into<String>,
        unit: &'static str,
        mut values: Vec<f64>,
    ) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        };
        Self {
            group,
            case: case.into(),
            unit,
            median: rounded(median),
            mean: rounded(values.iter().sum::<f64>() / values.len() as f64),
            min: rounded(at(0)),
            max: rounded(at(values.len().saturating_sub(1))),
            runs: values.len(),
        }
    }
}

/// To a tenth; what is small to a thousandth, what is tiny to a millionth.
fn rounded(value: f64) -> f64 {
    let parts = match value.abs() {
        tiny if tiny < 0.1 => 1e6,
        small if small < 10.0 => 1e3,
        _ => 10.0,
    };
    (value * parts).round() / parts
}

/// Values of cases by name, in the order in which they first came.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<(String, &'static str, Vec<f64>)>);

impl Values {
    /// One more value of a case.
    pub(super) fn note(&mut self, case: impl Into<String>, unit: &'static str, value: f64) {
        let case = case.into();
        match self.0.iter_mut().find(|(name, ..)| *name == case) {
            Some((_, _, values)) => values.push(value),
            None => self.0.push((case, unit, vec![value])),
        }
    }

    /// All of them.
    pub(super) fn measured(self, group: &'static str) -> Vec<Measured> {
        self.0
            .into_iter()
            .map(|(case, unit, values)| Measured::of(group, case, unit, values))
            .collect()
    }
}

/// Prints a group: what a case takes over the empty program, where there is one,
/// and a peer's part of what kordon takes for the same.
pub(super) fn print(group: &str, table: &str, rows: &[Measured]) {
    println!("{group}: {table}");
    let has_empty = rows.iter().any(|row| row.case == "empty");
    let over = if has_empty { "over empty" } else { "" };
    println!(
        "{:<42} {:>10} {:>10} {:>10} {:>10} {:<12} {over:>10} {:>10}",
        "case", "median", "mean", "min", "max", "unit", "to kordon"
    );
    for row in rows {
        let over = has_empty
            .then(|| median(rows, empty_of(row)).map(|empty| row.median - empty))
            .flatten();
        let ratio = ours(rows, row).map(|ours| row.median / ours);
        println!(
            "{:<42} {:>10} {:>10} {:>10} {:>10} {:<12} {:>10} {:>10}",
            row.case,
            row.median,
            row.mean,
            row.min,
            row.max,
            row.unit,
            over.map_or_else(String::new, |over| format!("{over:.1}")),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
        );
    }
    println!();
}

fn median(rows: &[Measured], case: &str) -> Option<f64> {
    let row = rows.iter().find(|row| row.case == case)?;
    Some(row.median)
}

fn empty_of(row: &Measured) -> &'static str {
    if row.case.contains("ipv6") {
        "empty/ipv6"
    } else {
        "empty"
    }
}

/// What kordon takes where a peer takes `row`.
fn ours(rows: &[Measured], row: &Measured) -> Option<f64> {
    let (peer, rest) = row.case.split_once('/')?;
    if peer == "kordon" || row.unit == "packets" {
        return None;
    }
    let ours = median(rows, &format!("kordon/{rest}"));
    let ours = ours.or_else(|| {
        ["lpm", "dir-24-8"]
            .contains(&peer)
            .then(|| median(rows, rest))
            .flatten()
    });
    ours.filter(|ours| *ours > 0.0)
}

#[cfg(test)]
mod tests {
    use super::{Measured, Values, ours};

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |values: &[f64]| Measured::of("packet", "x", "ns", values.to_vec());
        let odd = of(&[9.0, 1.0, 2.0404]);
        assert_eq!(
            (odd.median, odd.min, odd.max, odd.runs),
            (2.04, 1.0, 9.0, 3)
        );
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(of(&[1234.56]).median, 1234.6);
    }

    #[test]
    fn peers_are_compared_with_the_same_case() {
        let mut values = Values::default();
        for (case, value) in [
            ("kordon/drop", 2.0),
            ("ipset/drop", 8.0),
            ("ipv4/pass/hot", 4.0),
            ("lpm/ipv4/pass/hot", 12.0),
        ] {
            values.note(case, "ns", value);
        }
        let rows = values.measured("wire");
        let ratios: Vec<_> = rows.iter().map(|row| ours(&rows, row)).collect();
        assert_eq!(ratios, [None, Some(2.0), None, Some(4.0)]);
    }
}

//! A bar chart as SVG: one panel for each unit, a bar to the median, a line from the
//! least to the most.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::measured::Measured;

const LABELS: f64 = 290.0;
const BARS: f64 = 460.0;
const WIDTH: f64 = LABELS + BARS + 110.0;
const LINE: f64 = 18.0;

/// Writes the chart of a group.
pub(super) fn write(path: &Path, title: &str, rows: &[Measured]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    std::fs::write(path, svg(title, rows))
        .with_context(|| format!("cannot write the chart {}", path.display()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn svg(title: &str, rows: &[Measured]) -> String {
    let mut units: Vec<&str> = Vec::new();
    for row in rows {
        if !units.contains(&row.unit) {
            units.push(row.unit);
        }
    }
    let mut body = String::new();
    let mut y = 30.0;
    for unit in units {
        let panel: Vec<&Measured> = rows.iter().filter(|row| row.unit == unit).collect();
        y += 26.0;
        text(
            &mut body,
            8.0,
            y,
            "font-weight=\"bold\"",
            &format!("median, {unit}"),
        );
        let most = panel.iter().map(|row| row.max).fold(0.0, f64::max);
        // Medians fill the panel; one bad run may not.
        let full = panel.iter().map(|row| row.median).fold(0.0, f64::max) * 1.05;
        let full = if full > 0.0 { full } else { most.max(1.0) };
        for row in panel {
            y += LINE;
            bar(&mut body, y, full, row);
        }
    }
    let height = y + 16.0;
    let mut head = String::new();
    text(&mut head, 8.0, 22.0, "font-size=\"14\"", title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{head}{body}</svg>\n"
    )
}

fn text(body: &mut String, x: f64, y: f64, style: &str, content: &str) {
    writeln!(
        body,
        "<text x=\"{x}\" y=\"{y}\" {style}>{}</text>",
        escaped(content)
    )
    .expect("writing to a string cannot fail");
}

fn bar(body: &mut String, y: f64, full: f64, row: &Measured) {
    let at = |value: f64| LABELS + BARS * (value / full).clamp(0.0, 1.0);
    let colour = if row.case.starts_with("kordon") || row.case.starts_with("ipv") {
        "#1f6f54"
    } else {
        "#9aa7b1"
    };
    text(body, LABELS - 6.0, y, "text-anchor=\"end\"", &row.case);
    let (top, middle) = (y - 10.0, y - 4.0);
    let (from, to, end) = (at(row.min), at(row.max), at(row.median));
    writeln!(
        body,
        "<rect x=\"{LABELS}\" y=\"{top}\" width=\"{:.1}\" height=\"12\" fill=\"{colour}\"/>\n\
         <path d=\"M{from:.1} {middle}H{to:.1}\" stroke=\"black\"/>",
        end - LABELS
    )
    .expect("writing to a string cannot fail");
    text(body, LABELS + BARS + 8.0, y, "", &row.median.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_a_bar_for_each_case_and_a_panel_for_each_unit() {
        let rows = [
            Measured::of("wire", "kordon/drop", "ns", vec![1.0, 2.0, 30.0]),
            Measured::of("wire", "a<b&c", "ns", vec![4.0]),
            Measured::of("wire", "leaks", "packets", vec![0.0]),
        ];
        let svg = svg("wire", &rows);
        assert_eq!(svg.matches("<rect x=").count(), 3);
        assert_eq!(svg.matches("median, ").count(), 2);
        assert!(svg.contains("a&lt;b&amp;c"));
        // A bar of 2 in a panel to 4.2.
        let width = BARS * 2.0 / 4.2;
        assert!(svg.contains(&format!("width=\"{width:.1}\"")), "{svg}");
        assert!(!svg.contains("NaN"));
    }
}

//! Words that somebody else chose, made fit for a terminal.
//!
//! A network's name is what its owner registered. It must not move the cursor, turn the direction of
//! writing, hide letters or pile marks over the lines around it.

use unicode_width::UnicodeWidthChar;

use crate::diagnostic;

/// Marks that one letter may carry (Vietnamese has two).
const MARKS: usize = 2;

/// Whether a character could drive a terminal, or makes cells of several characters, which terminals count differently.
fn is_harmful(c: char) -> bool {
    diagnostic::is_harmful(c) || matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// The text with harmful characters replaced, and no letter with more than two marks.
pub fn clean(text: &str) -> String {
    let mut marks = 0;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            marks = 0;
            out.push(char::REPLACEMENT_CHARACTER);
            continue;
        }
        marks = match c.width() {
            Some(0) => marks + 1,
            _ => 0,
        };
        if marks <= MARKS {
            out.push(c);
        }
    }
    out
}

/// The JSON text with harmful characters as `\u` escapes: the same value, and nothing a terminal obeys.
pub fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if !is_harmful(c) {
            out.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            out += &format!("\\u{unit:04x}");
        }
    }
    out
}

/// Cells that a text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text in exactly `cells` cells: with spaces behind it (before it if `right`), or cut, with a
/// sign that it was. A letter of two cells that has only one left becomes a space.
pub fn fit(text: &str, cells: usize, right: bool) -> String {
    let all = width(text);
    if all <= cells {
        let space = " ".repeat(cells - all);
        return match right {
            true => space + text,
            false => text.to_owned() + &space,
        };
    }
    let Some(room) = cells.checked_sub(1) else {
        return String::new();
    };
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide > room {
            break;
        }
        used += wide;
        out.push(c);
    }
    out + "…" + &" ".repeat(room - used)
}

/// The text in lines of at most `cells` cells, cut between words where it can be.
pub fn wrapped(text: &str, cells: usize) -> Vec<String> {
    if cells == 0 {
        return Vec::new();
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word.to_owned();
        while let Some(line) = lines.last_mut() {
            let gap = usize::from(!line.is_empty());
            if width(line) + gap + width(&word) <= cells {
                if gap == 1 {
                    line.push(' ');
                }
                line.push_str(&word);
                break;
            }
            if gap == 1 {
                lines.push(String::new());
                continue;
            }
            // Longer than a line: as much as there is room for.
            let (mut used, mut end) = (0, word.len());
            for (place, c) in word.char_indices() {
                used += c.width().unwrap_or(0);
                if used > cells {
                    end = place.max(if place == 0 { c.len_utf8() } else { 0 });
                    break;
                }
            }
            let rest = word.split_off(end);
            line.push_str(&word);
            if rest.is_empty() {
                break;
            }
            lines.push(String::new());
            word = rest;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_obeys() {
        let name = "ev\x1b[2Jil\u{202e}\u{9b}31m\u{200b}\n\u{2066}x\u{e0041}";
        assert_eq!(
            clean(name),
            "ev\u{fffd}[2Jil\u{fffd}\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}x\u{fffd}"
        );
        let piled = format!("a{}b", "\u{301}".repeat(50));
        assert_eq!(clean(&piled), "a\u{301}\u{301}b");
        assert_eq!(clean("Ростелеком 中国电信"), "Ростелеком 中国电信");
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::Value::from("a\u{202e}\u{9b}\u{e0041}\x1b");
        let text = escaped(&value.to_string());
        assert!(text.is_ascii(), "{text}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).expect("json"),
            value
        );
    }

    #[test]
    fn exactly_so_many_cells() {
        assert_eq!(fit("abc", 5, false), "abc  ");
        assert_eq!(fit("abc", 5, true), "  abc");
        assert_eq!(fit("abcdef", 4, false), "abc…");
        assert_eq!(fit("中国电信", 5, false), "中国…");
        assert_eq!(fit("中国电信", 4, false), "中… ");
        assert_eq!(fit("中国", 0, false), "");
        for cells in 0..12 {
            for text in ["Ростелеком 中国电信", "", "a", "中"] {
                assert_eq!(width(&fit(text, cells, true)), cells);
            }
        }
    }

    #[test]
    fn lines_of_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert_eq!(wrapped("中国电信", 3), ["中", "国", "电", "信"]);
        assert_eq!(wrapped("中", 1), ["中"]);
        assert_eq!(wrapped("", 5), [""]);
        assert!(wrapped("a", 0).is_empty());
    }
}

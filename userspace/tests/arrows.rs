//! Which module may know which. The allowed arrows between the top modules of `userspace/src`
//! stand in `docs/architecture.md`, under "Arrows", and are read from there: what the document
//! says is what the code does. Beside that, the parts of a module do not know each other in
//! circles, and no file of the product is longer than 500 lines.
//!
//! An arrow is a path in the code, in a `use` or anywhere else, macros included. It leads to where
//! an item is written, not to the `mod.rs` that hands it on: in `use super::Policy`, where
//! `policy/mod.rs` says `pub use model::Policy`, it leads to `policy::model`. Handing on is no arrow.
//! Tests may know whom they like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

const LONGEST: usize = 500;

#[test]
fn arrows_are_those_of_the_document() {
    let document = fs::read_to_string(root().join("docs/architecture.md")).expect("the document");
    let allowed = allowed(&document);
    let found = Code::of_userspace().arrows(1);
    let names: BTreeSet<_> = found
        .iter()
        .flat_map(|arrow| [&arrow.from, &arrow.to])
        .collect();
    let mut wrong = Vec::new();
    for name in names {
        if !allowed.contains_key(name) {
            wrong.push(format!("`{name}` has no line in docs/architecture.md"));
        }
    }
    let mut seen = BTreeSet::new();
    for arrow in &found {
        if allowed
            .get(&arrow.from)
            .is_some_and(|to| to.contains(&arrow.to))
        {
            seen.insert((&arrow.from, &arrow.to));
        } else {
            wrong.push(format!("not allowed: {arrow}"));
        }
    }
    for (from, targets) in &allowed {
        for to in targets {
            if !seen.contains(&(from, to)) {
                wrong.push(format!("in the document, not in the code: {from} -> {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    println!("{} modules, {} arrows", allowed.len(), seen.len());
}

#[test]
fn parts_of_a_module_know_each_other_in_no_circle() {
    let code = Code::of_userspace();
    let arrows = code.arrows(2);
    let mut wrong = Vec::new();
    let tops: BTreeSet<_> = code
        .modules
        .keys()
        .filter_map(|path| path.first())
        .collect();
    for top in tops {
        let within = |name: &str| name == top || name.starts_with(&format!("{top}::"));
        let own = arrows
            .iter()
            .filter(|arrow| within(&arrow.from) && within(&arrow.to));
        let own: Vec<_> = own.cloned().collect();
        let circles = circles(&own);
        if !circles.is_empty() {
            wrong.push(format!("in `{top}`:\n{}", circles.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_file_of_the_product_is_too_long() {
    let mut long = Vec::new();
    for folder in ["userspace/src", "ebpf-programs/src", "xtask/src"] {
        for file in sources(&root().join(folder)) {
            let name = below_root(&file);
            let lines = fs::read_to_string(&file).expect("a source").lines().count();
            let of_tests = name.ends_with("/tests.rs") || name.contains("/tests/");
            if lines > LONGEST && !of_tests {
                long.push(format!("{name} has {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn unsafe_code_is_at_the_edges() {
    let edges =
        ["ingress", "memory", "offload", "system"].map(|name| format!("datapath/{name}.rs"));
    let edges = [&edges[..], &["regular.rs".to_owned()]].concat();
    assert_eq!(with_unsafe("userspace/src/"), edges);
    for file in with_unsafe("ebpf-programs/src/") {
        let edges = ["shell/", "bin/", "opaque.rs", "repeat.rs", "bare.rs"];
        assert!(edges.iter().any(|edge| file.starts_with(edge)), "{file}");
    }
}

/// The files below a folder that have unsafe code.
fn with_unsafe(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    for file in sources(&root().join(folder)) {
        let text = fs::read_to_string(&file).expect("a source");
        if has_unsafe(text.parse().expect("it is Rust")) {
            files.push(below_root(&file).replace(folder, ""));
        }
    }
    files.sort();
    files
}

fn has_unsafe(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => has_unsafe(group.stream()),
        token => is_ident(&token, "unsafe"),
    })
}

fn below_root(file: &Path) -> String {
    let name = file.strip_prefix(root()).expect("below the root");
    name.display().to_string()
}

#[test]
fn arrows_are_seen_however_they_are_written() {
    let code = Code::of([
        ("a", "pub mod b; pub use b::Handed; struct Own;"),
        ("a::b", "pub struct Handed; pub struct Deep;"),
        (
            "c",
            "use crate::{a::{self, b::Deep as D}, d};\nfn f() { a::Own; }",
        ),
        (
            "d",
            "fn f() { format!(\"{}\", crate::a::Handed) }\n// crate::c::Never\n\"crate::c::No\"",
        ),
        ("e", "mod g; use super::a as x; fn f(_: x::Own) {}"),
        (
            "e::g",
            "use super::super::d; #[cfg(test)] mod tests { use crate::c; }",
        ),
    ]);
    let shown = |depth| -> BTreeSet<_> {
        let arrows = code.arrows(depth).into_iter();
        arrows
            .map(|arrow| format!("{} -> {}", arrow.from, arrow.to))
            .collect()
    };
    let top = ["c -> a", "c -> d", "d -> a", "e -> a", "e -> d"];
    assert_eq!(shown(1), top.map(str::to_owned).into());
    let deep = [
        "c -> a",
        "c -> a::b",
        "c -> d",
        "d -> a::b",
        "e -> a",
        "e::g -> d",
    ];
    assert_eq!(shown(2), deep.map(str::to_owned).into());
    let circle = Code::of([
        ("a", "use crate::b;"),
        ("b", "fn f() { crate::c::g() }"),
        ("c", "use super::a;"),
    ]);
    assert_eq!(circles(&circle.arrows(1)).len(), 3);
}

/// The lines `from: to, to` of the first block under "Arrows", each of which names only those
/// before it.
fn allowed(document: &str) -> BTreeMap<String, BTreeSet<String>> {
    let section = document.split("\n## Arrows\n").nth(1).expect("the section");
    let block = section.split("```text\n").nth(1).expect("the block");
    let block = block.split("```").next().expect("its end");
    let names = |text: &str| -> BTreeSet<String> {
        text.split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect()
    };
    let mut allowed = BTreeMap::new();
    for line in block.lines() {
        let (from, to) = line.split_once(':').expect("`name: names`");
        let to = names(to);
        let later = to.iter().find(|name| !allowed.contains_key(*name));
        assert_eq!(
            later, None,
            "`{from}` names a module that does not stand above it"
        );
        allowed.insert(from.trim().to_owned(), to);
    }
    allowed
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Names from the root of the crate: `["policy", "model"]`.
type Names = Vec<String>;

#[derive(Clone)]
struct Arrow {
    from: String,
    to: String,
    /// The path as it was written, its file and line.
    place: String,
}

impl std::fmt::Display for Arrow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {} ({})", self.from, self.to, self.place)
    }
}

#[derive(Default)]
struct Module {
    file: String,
    /// What `use` names: (name here, path as written, line, whether it is handed on).
    uses: Vec<(String, Names, usize, bool)>,
    /// Other paths, and their lines.
    paths: Vec<(Names, usize)>,
}

struct Code {
    modules: BTreeMap<Names, Module>,
}

impl Code {
    fn of_userspace() -> Self {
        let folder = root().join("userspace/src");
        let mut texts = Vec::new();
        for file in sources(&folder) {
            let name = file
                .strip_prefix(&folder)
                .expect("below")
                .with_extension("");
            let mut path: Names = name
                .iter()
                .map(|part| part.to_str().expect("UTF-8").to_owned())
                .collect();
            if path == ["main"] {
                continue;
            }
            if path == ["lib"] || path.last().is_some_and(|last| last == "mod") {
                path.pop();
            }
            texts.push((
                path,
                file.display().to_string(),
                fs::read_to_string(&file).expect("a source"),
            ));
        }
        Self::read(texts)
    }

    fn of<const N: usize>(texts: [(&str, &str); N]) -> Self {
        let split = |path: &str| path.split("::").map(str::to_owned).collect();
        let texts = texts.map(|(path, text)| (split(path), path.to_owned(), text.to_owned()));
        let mut texts = Vec::from(texts);
        texts.push((Names::new(), String::new(), String::new()));
        Self::read(texts)
    }

    fn read(texts: Vec<(Names, String, String)>) -> Self {
        let mut code = Self {
            modules: BTreeMap::new(),
        };
        let mut of_tests = Vec::new();
        for (path, file, text) in texts {
            let tokens: TokenStream = text
                .parse()
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            code.modules.entry(path.clone()).or_default().file = file;
            code.walk(&path, tokens, &mut of_tests);
        }
        code.modules
            .retain(|path, _| !of_tests.iter().any(|tests| path.starts_with(tests)));
        code
    }

    fn walk(&mut self, module: &Names, tokens: TokenStream, of_tests: &mut Vec<Names>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let mut handed_on = false;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let attribute = tokens
                        .get(at + 1)
                        .map(ToString::to_string)
                        .unwrap_or_default();
                    at += 1;
                    if attribute.replace(' ', "").starts_with("[cfg(test)]") {
                        // To the end of the item: its body, or a semicolon.
                        while at < tokens.len() {
                            if is_ident(&tokens[at], "mod") {
                                of_tests.push(with(module, &tokens[at + 1].to_string()));
                            }
                            at += 1;
                            match tokens.get(at - 1) {
                                Some(TokenTree::Group(group))
                                    if group.delimiter() == Delimiter::Brace =>
                                {
                                    break;
                                }
                                Some(TokenTree::Punct(punct)) if punct.as_char() == ';' => break,
                                _ => {}
                            }
                        }
                    }
                }
                TokenTree::Group(group) => {
                    let inner = (at > 1 && is_ident(&tokens[at - 2], "mod"))
                        .then(|| with(module, &tokens[at - 1].to_string()));
                    if let Some(inner) = &inner {
                        let file = self.modules[module].file.clone();
                        self.modules.entry(inner.clone()).or_default().file = file;
                    }
                    self.walk(inner.as_ref().unwrap_or(module), group.stream(), of_tests);
                    at += 1;
                }
                TokenTree::Ident(ident) if ident == "pub" => {
                    handed_on = true;
                    at += 1;
                    if let Some(TokenTree::Group(group)) = tokens.get(at)
                        && group.delimiter() == Delimiter::Parenthesis
                    {
                        at += 1;
                    }
                    continue;
                }
                TokenTree::Ident(ident) if ident == "use" => {
                    let rest = tokens[at + 1..]
                        .iter()
                        .take_while(|token| token.to_string() != ";")
                        .cloned();
                    let rest: Vec<_> = rest.collect();
                    let own = self.modules.get_mut(module).expect("it was entered");
                    names_of_use(&rest, &Names::new(), &mut |name, path, line| {
                        own.uses.push((name, path, line, handed_on));
                    });
                    at += rest.len() + 1;
                }
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    let mut path = vec![ident.to_string()];
                    at += 1;
                    while let [
                        TokenTree::Punct(one),
                        TokenTree::Punct(two),
                        TokenTree::Ident(next),
                        ..,
                    ] = &tokens[at..]
                        && one.as_char() == ':'
                        && two.as_char() == ':'
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    if path.len() > 1 {
                        self.modules
                            .get_mut(module)
                            .expect("it was entered")
                            .paths
                            .push((path, line));
                    }
                }
                _ => at += 1,
            }
            handed_on = false;
        }
    }

    /// The module in which an item is written that `module` names by `path`.
    fn home(&self, module: &Names, path: &[String], steps: usize) -> Option<Names> {
        let (first, mut rest) = path.split_first()?;
        let mut here = module.clone();
        match first.as_str() {
            "crate" => here.clear(),
            "self" => {}
            "super" => {
                here.pop();
            }
            _ if self.modules.contains_key(&with(module, first)) => here.push(first.clone()),
            _ => {
                let target = &self
                    .modules
                    .get(module)?
                    .uses
                    .iter()
                    .find(|(name, ..)| name == first)?
                    .1;
                // What is imported under the name of another crate's, and the like.
                if steps > 20 || target.first() == Some(first) {
                    return None;
                }
                return self.home(module, &[target, rest].concat(), steps + 1);
            }
        }
        while let Some((next, after)) = rest.split_first() {
            if next == "super" {
                here.pop();
            } else if self.modules.contains_key(&with(&here, next)) {
                here.push(next.clone());
            } else if steps < 20
                && let Some((_, target, ..)) = self.modules[&here]
                    .uses
                    .iter()
                    .find(|(name, ..)| name == next)
            {
                return self.home(&here, &[target, after].concat(), steps + 1);
            } else {
                break;
            }
            rest = after;
        }
        Some(here)
    }

    /// Arrows between modules, of which this many names count. One for each pair.
    fn arrows(&self, depth: usize) -> Vec<Arrow> {
        let short = |path: &Names| path[..path.len().min(depth)].join("::");
        let mut found = BTreeMap::new();
        for (path, module) in &self.modules {
            let uses = module.uses.iter();
            let uses = uses.map(|(_, names, line, handed_on)| (names, line, *handed_on));
            let paths = module
                .paths
                .iter()
                .map(|(names, line)| (names, line, false));
            for (names, line, handed_on) in uses.chain(paths) {
                let Some(home) = self.home(path, names, 0) else {
                    continue;
                };
                let (from, to) = (short(path), short(&home));
                let down = handed_on && home.starts_with(path);
                if !from.is_empty() && !to.is_empty() && from != to && !down {
                    let place = format!("{}:{line}: {}", module.file, names.join("::"));
                    let arrow = Arrow {
                        from: from.clone(),
                        to: to.clone(),
                        place,
                    };
                    found.entry((from, to)).or_insert(arrow);
                }
            }
        }
        found.into_values().collect()
    }
}

fn with(module: &Names, name: &str) -> Names {
    let mut module = module.clone();
    module.push(name.to_owned());
    module
}

fn is_ident(token: &TokenTree, text: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == text)
}

/// Each name of `a::{b, c::{self, d as e}}`, and its path.
fn names_of_use(
    tokens: &[TokenTree],
    before: &Names,
    found: &mut impl FnMut(String, Names, usize),
) {
    for part in
        tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','))
    {
        let mut path = before.clone();
        let mut name = None;
        let mut line = 0;
        let mut whole = false;
        for token in part {
            match token {
                TokenTree::Ident(ident) if ident == "as" => {
                    name = part.last().map(ToString::to_string);
                    break;
                }
                TokenTree::Ident(ident) if ident == "self" && !path.is_empty() => {
                    line = ident.span().start().line;
                }
                TokenTree::Ident(ident) => {
                    line = ident.span().start().line;
                    path.push(ident.to_string());
                }
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    names_of_use(&inner, &path, found);
                    whole = true;
                }
                _ => {}
            }
        }
        if let Some(last) = path.last().filter(|_| !whole && !part.is_empty()) {
            found(name.unwrap_or_else(|| last.clone()), path.clone(), line);
        }
    }
}

/// The arrows that are part of a circle.
fn circles(arrows: &[Arrow]) -> Vec<String> {
    let reaches = |from: &str, to: &str| {
        let mut seen = BTreeSet::from([from]);
        let mut ahead = vec![from];
        while let Some(at) = ahead.pop() {
            for arrow in arrows.iter().filter(|arrow| arrow.from == at) {
                if seen.insert(&arrow.to) {
                    ahead.push(&arrow.to);
                }
            }
        }
        seen.contains(to)
    };
    let in_circle = arrows
        .iter()
        .filter(|arrow| reaches(&arrow.to, &arrow.from));
    in_circle
        .map(|arrow| format!("in a circle: {arrow}"))
        .collect()
}

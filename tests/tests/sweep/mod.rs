//! Rows of real files, asked for many addresses in ascending order: the rows that
//! begin and have not ended are those that a scan through all rows would find,
//! and that is compared with such a scan.

use std::{collections::VecDeque, io::Read as _, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, ensure};
use kordon::asn::Country;
use kordon_tests::reference::Table;

/// A row: first and last address, and what the file says of them.
#[derive(Clone, Debug)]
struct Row<V> {
    first: u128,
    last: u128,
    value: V,
}

/// What the rows say of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// By source, then ascending.
    pub(crate) origins: Vec<u32>,
    /// Of the block.
    pub(crate) country: Option<Country>,
}

/// Files as text, and their rows by family, sorted by first address.
pub(crate) struct Sources {
    /// Texts of ASN sources.
    pub(crate) asn: Vec<String>,
    /// Texts of country sources.
    pub(crate) country: Vec<String>,
    networks: [Vec<Row<u32>>; 2],
    blocks: [Vec<Row<Country>>; 2],
}

fn text(path: &Path) -> Result<String> {
    let what = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(what)?;
    let mut text = String::new();
    zstd::Decoder::new(file)
        .and_then(|mut decoder| decoder.read_to_string(&mut text))
        .with_context(what)?;
    Ok(text)
}

/// Family and value.
fn number(text: &str) -> Result<(usize, u128)> {
    Ok(match text.parse::<IpAddr>()?.to_canonical() {
        IpAddr::V4(v4) => (0, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (1, v6.to_bits()),
    })
}

fn rows<V>(text: &str, value: impl Fn(&str) -> Option<V>) -> Result<[Vec<Row<V>>; 2]> {
    let mut rows = [Vec::new(), Vec::new()];
    for line in text.lines() {
        let mut cells = line.split(',');
        let mut cell = || cells.next().with_context(|| format!("`{line}` is no row"));
        let (first, last, third) = (cell()?, cell()?, cell()?);
        let (family, first) = number(first)?;
        let (_, last) = number(last)?;
        let value = value(third).with_context(|| format!("`{line}` is no row"))?;
        rows[family].push(Row { first, last, value });
    }
    Ok(rows)
}

impl Sources {
    /// Reads the folder's files.
    pub(crate) fn read(data: &Path) -> Result<Self> {
        let read = |names: [&str; 2]| -> Result<Vec<String>> {
            let paths = names.map(|name| data.join(format!("{name}.csv.zst")));
            paths.iter().map(|path| text(path)).collect()
        };
        let asn = read(["asn-ipv4", "asn-ipv6"])?;
        let country = read(["asn-country-ipv4", "asn-country-ipv6"])?;
        let mut networks = [Vec::new(), Vec::new()];
        for text in &asn {
            let found = rows(text, |cell| cell.parse().ok())?;
            for (all, found) in networks.iter_mut().zip(found) {
                // One file for each family, so the order of files does not matter.
                ensure!(
                    all.is_empty() || found.is_empty(),
                    "two files of one family"
                );
                // AS0: announced by nobody.
                all.extend(found.into_iter().filter(|row| row.value != 0));
                all.sort_by_key(|row| row.first);
            }
        }
        let mut blocks = [Vec::new(), Vec::new()];
        for text in &country {
            let found = rows(text, |cell| cell.parse().ok())?;
            for (all, found) in blocks.iter_mut().zip(found) {
                all.extend(found);
                all.sort_by_key(|row| row.first);
            }
        }
        Ok(Self {
            asn,
            country,
            networks,
            blocks,
        })
    }

    /// First and last addresses of all rows of a family.
    pub(crate) fn rows(&self, v6: bool) -> Vec<(u128, u128)> {
        let networks = self.networks[usize::from(v6)].iter();
        let blocks = self.blocks[usize::from(v6)].iter();
        networks
            .map(|row| (row.first, row.last))
            .chain(blocks.map(|row| (row.first, row.last)))
            .collect()
    }

    /// To be asked in ascending order.
    pub(crate) fn sweep(&self, v6: bool) -> Sweep<'_> {
        Sweep {
            networks: Active::new(&self.networks[usize::from(v6)]),
            blocks: Active::new(&self.blocks[usize::from(v6)]),
            answer: Answer::default(),
        }
    }

    /// Asks the sweep and a scan through all rows for some addresses: boundaries and
    /// others. Says how many.
    pub(crate) fn sweep_equals_scan(&self, table: &Table, count: usize) -> Result<usize> {
        let mut rng = fastrand::Rng::with_seed(3);
        for v6 in [false, true] {
            let rows = self.rows(v6);
            let mut addresses: Vec<u128> = (0..count / 2)
                .map(|number| {
                    let (first, last) = rows[rng.usize(..rows.len())];
                    match number % 4 {
                        0 => first.saturating_sub(1),
                        1 => last,
                        2 => first + rng.u128(..=last - first),
                        _ => rng.u128(..) >> if v6 { 0 } else { 96 },
                    }
                })
                .collect();
            addresses.sort_unstable();
            let mut sweep = self.sweep(v6);
            for address in addresses {
                let ip: IpAddr = if v6 {
                    std::net::Ipv6Addr::from(address).into()
                } else {
                    std::net::Ipv4Addr::from(address as u32).into()
                };
                if ip.to_canonical() != ip {
                    continue;
                }
                let scanned = table.at(ip);
                let swept = sweep.at(address);
                ensure!(
                    swept.origins == scanned.origins && swept.country == scanned.block,
                    "{ip}: the sweep finds {swept:?}, a scan {scanned:?}"
                );
            }
        }
        Ok(count / 2 * 2)
    }
}

/// Rows that begin at or before an address and have not ended.
struct Active<'a, V> {
    waiting: VecDeque<&'a Row<V>>,
    here: Vec<&'a Row<V>>,
}

impl<'a, V> Active<'a, V> {
    fn new(rows: &'a [Row<V>]) -> Self {
        Self {
            waiting: rows.iter().collect(),
            here: Vec::new(),
        }
    }

    fn at(&mut self, address: u128) -> &[&'a Row<V>] {
        while let Some(row) = self.waiting.pop_front_if(|row| row.first <= address) {
            self.here.push(row);
        }
        self.here.retain(|row| row.last >= address);
        &self.here
    }
}

/// See the module.
pub(crate) struct Sweep<'a> {
    networks: Active<'a, u32>,
    blocks: Active<'a, Country>,
    answer: Answer,
}

impl Sweep<'_> {
    /// What the rows say of an address, which is not before the last one.
    pub(crate) fn at(&mut self, address: u128) -> &Answer {
        let here = self.networks.at(address);
        self.answer.origins.clear();
        for row in here {
            // A row that contains another one is the less specific.
            let contains = |other: &&Row<u32>| {
                row.first <= other.first
                    && other.last <= row.last
                    && (row.first, row.last) != (other.first, other.last)
            };
            if !here.iter().any(contains) {
                self.answer.origins.push(row.value);
            }
        }
        self.answer.origins.sort_unstable();
        self.answer.origins.dedup();
        let blocks = self.blocks.at(address);
        let smallest = blocks.iter().min_by_key(|row| row.last - row.first);
        self.answer.country = smallest.map(|row| row.value);
        &self.answer
    }
}

//! The whole Internet's table, a policy that drops about a twentieth of its
//! prefixes, and destinations: a prefix of the table by chance, then an address in it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use ipnet::IpNet;
use kordon::asn::{self, AsnDb};
use kordon::compile::directory::Directory;
use kordon::compile::generation::{Environment, PortSpec};
use kordon::datapath::probe::Prober;
use kordon::judge::Image;
use kordon::policy::{self, Bundle, Context, Overlay};
use kordon_ebpf::layout::{Action, PROBE_BATCH};

use super::packet::{Family, frame, octets};

/// Destinations of one kind: each is used once before the first comes again. More
/// than any cache holds of the table.
const POOL: usize = 64 * PROBE_BATCH;

/// The same table, policy and destinations in every run.
const SEED: u64 = 0x6b6f_7264_6f6e;

/// Rewritten over the destination of a frame.
pub(super) type Input = [u8; 16];

/// Table, policy and destinations.
pub(super) struct Internet {
    /// What kordon's program is given.
    pub(super) image: Image,
    /// Prefixes of the table with class and action, for the kernel's trie.
    pub(super) prefixes: Vec<(IpNet, u32, Action)>,
    pools: HashMap<(Family, Action), Vec<Input>>,
    blocked: usize,
}

impl Internet {
    /// Reads and compiles everything, and asks kordon's program what becomes of
    /// each prefix.
    pub(super) fn load() -> Result<Self> {
        let data = folder()?;
        let files = ["asn-ipv4.csv.zst", "asn-ipv6.csv.zst"].map(|name| data.join(name));
        let (db, _) = asn::import(&files, &[]).context("cannot import the table")?;
        let mut rng = Rng::with_seed(SEED);
        let nets = prefixes(&db);
        let blocked = hostile(&db, &nets, &mut rng);
        let text = policy_text(&blocked);
        let (policy, found) = policy::parse(
            &Bundle::from_text("bench.toml", &text),
            &Overlay::default(),
            &Context::now(Some(&db)),
        );
        let Some(policy) = policy else {
            bail!("the policy is not valid: {found:?}");
        };
        let environment = Environment {
            ports: vec![PortSpec::default()],
            ..Environment::default()
        };
        let image = Image::compile(&policy, &db, &environment, &mut Directory::default())?;
        let mut prober = Prober::load(image.tier)?;
        prober.install(&image.rules, &image.table)?;

        let mut internet = Self {
            image,
            prefixes: Vec::with_capacity(nets.len()),
            pools: HashMap::new(),
            blocked: blocked.len(),
        };
        for family in Family::ALL {
            let nets: Vec<IpNet> = nets
                .iter()
                .map(|(net, _)| *net)
                .filter(|net| family.has(net.addr()))
                .collect();
            let inputs: Vec<Input> = nets.iter().map(|net| octets(net.addr())).collect();
            let said = ask(&mut prober, family, &inputs)?;
            for action in [Action::Pass, Action::Drop] {
                let of_action: Vec<IpNet> = nets
                    .iter()
                    .zip(&said)
                    .filter(|(_, (_, said))| *said == action)
                    .map(|(net, _)| *net)
                    .collect();
                ensure!(
                    !of_action.is_empty(),
                    "no {family:?} prefix is to {}",
                    action.as_str()
                );
                let mut pool: Vec<Input> = (0..POOL)
                    .map(|_| {
                        octets(address_in(
                            of_action[rng.usize(..of_action.len())],
                            &mut rng,
                        ))
                    })
                    .collect();
                // 6to4 and Teredo addresses are judged by what they embed.
                let said = ask(&mut prober, family, &pool)?;
                let right = |index: &usize| said[*index].1 == action;
                let others: Vec<usize> = (0..POOL).filter(|index| !right(index)).collect();
                ensure!(
                    others.len() < POOL / 1000,
                    "{} {family:?} addresses are not to {}, though their prefixes' first are",
                    others.len(),
                    action.as_str()
                );
                let first = (0..POOL).find(right).map(|index| pool[index]);
                for index in others {
                    pool[index] = first.unwrap_or_default();
                }
                internet.pools.insert((family, action), pool);
            }
            internet.prefixes.extend(
                nets.iter()
                    .zip(said)
                    .map(|(net, (class, action))| (*net, class, action)),
            );
        }
        Ok(internet)
    }

    /// Destinations with this fate.
    pub(super) fn pool(&self, family: Family, action: Action) -> &[Input] {
        self.pools.get(&(family, action)).map_or(&[], Vec::as_slice)
    }

    /// What is measured on, in a line.
    pub(super) fn summary(&self) -> String {
        let of = |family: Family| {
            let of_family = || {
                self.prefixes
                    .iter()
                    .filter(|(net, ..)| family.has(net.addr()))
            };
            (
                of_family().count(),
                of_family()
                    .filter(|(.., action)| *action == Action::Drop)
                    .count(),
            )
        };
        let ((v4, v4_dropped), (v6, v6_dropped)) = (of(Family::V4), of(Family::V6));
        format!(
            "{v4} IPv4 and {v6} IPv6 prefixes; {} ASNs blocked: {v4_dropped} and {v6_dropped} prefixes dropped",
            self.blocked
        )
    }
}

/// Class and action of each destination, in a frame of a camera.
fn ask(prober: &mut Prober, family: Family, inputs: &[Input]) -> Result<Vec<(u32, Action)>> {
    let said = prober.batch(
        &frame(family, super::packet::CAMERAS),
        0,
        family.number(),
        family.destination(),
        inputs,
    )?;
    Ok(said
        .iter()
        .map(|output| (output.class, Action::from_bits(u32::from(output.action))))
        .collect())
}

/// Where the whole Internet's table is.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = crate::data::folder();
    ensure!(
        folder.join("asn-ipv4.csv.zst").is_file(),
        "there is no asn-ipv4.csv.zst in `{}`; name the folder with the whole Internet's table \
         in KORDON_TEST_DATA",
        folder.display()
    );
    Ok(folder)
}

/// Prefixes of the table and who announces them first.
fn prefixes(db: &AsnDb) -> Vec<(IpNet, u32)> {
    let v4 = db.v4.iter().map(|range| {
        (
            IpAddr::V4(range.start.into()),
            IpAddr::V4(range.end.into()),
            range.origins,
        )
    });
    let v6 = db.v6.iter().map(|range| {
        (
            IpAddr::V6(range.start.into()),
            IpAddr::V6(range.end.into()),
            range.origins,
        )
    });
    v4.chain(v6)
        .flat_map(|(start, end, origins)| {
            let origin = db
                .origins
                .get(origins as usize)
                .and_then(|origins| origins.first().copied())
                .unwrap_or(0);
            asn::cidrs(start, end)
                .into_iter()
                .map(move |net| (net, origin))
        })
        .collect()
}

/// ASNs by chance, until they announce a twentieth of the prefixes.
fn hostile(db: &AsnDb, nets: &[(IpNet, u32)], rng: &mut Rng) -> Vec<u32> {
    let mut announced: HashMap<u32, usize> = HashMap::new();
    for (_, origin) in nets {
        *announced.entry(*origin).or_default() += 1;
    }
    let mut asns: Vec<u32> = db.asns.iter().map(|(asn, _)| *asn).collect();
    rng.shuffle(&mut asns);
    let mut left = nets.len() / 20;
    asns.retain(|asn| match announced.get(asn) {
        Some(count) if *count <= left => {
            left -= count;
            true
        }
        _ => false,
    });
    asns
}

fn policy_text(asns: &[u32]) -> String {
    let asns: Vec<String> = asns.iter().map(u32::to_string).collect();
    format!(
        "[zone.cameras]\n\
         vlans = [20]\n\
         sources = [\"10.20.0.0/16\", \"fd00:20::/48\"]\n\
         [set.hostile]\n\
         asns = [{}]\n\
         [[rule]]\n\
         name = \"hostile\"\n\
         from = \"cameras\"\n\
         to = \"hostile\"\n\
         action = \"drop\"\n",
        asns.join(", ")
    )
}

fn address_in(net: IpNet, rng: &mut Rng) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            Ipv4Addr::from(u32::from(net.addr()) | rng.u32(..) & u32::from(net.hostmask())).into()
        }
        IpNet::V6(net) => {
            Ipv6Addr::from(u128::from(net.addr()) | rng.u128(..) & u128::from(net.hostmask()))
                .into()
        }
    }
}

//! A table, a policy that drops a part of its prefixes, and destinations: a prefix of
//! the table by chance, then an address in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fastrand::Rng;
use ipnet::IpNet;
use kordon::asn::{self, AsnDb};
use kordon::compile::directory::Directory;
use kordon::compile::generation::{Environment, PortSpec};
use kordon::datapath::probe::Prober;
use kordon::judge::Image;
use kordon::policy::{self, Bundle, Context, Overlay, Policy};
use kordon_ebpf::layout::{Action, FLOW_LINES_USUAL, PROBE_BATCH};

use super::packet::{CAMERAS, Family, PROVIDER, frame, octets};
use super::table::Table;

/// Destinations of one kind: each is used once before the first comes again. More
/// than any cache holds of the table.
const POOL: usize = 64 * PROBE_BATCH;

/// The same table, policy and destinations in every run.
const SEED: u64 = 0x6b6f_7264_6f6e;

/// What cameras send as.
const SOURCES: &str = "sources = [\"10.20.0.0/16\", \"fd00:20::/48\"]\n";

/// Rewritten over the destination of a frame.
pub(super) type Input = [u8; 16];

/// What of the table the policy drops.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blocked {
    /// ASNs by chance that together announce a twentieth of the prefixes.
    Part,
    /// So many ASNs, those first that announce both families.
    Asns(usize),
}

/// A policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Zones, of a VLAN each; no two have equal rules.
    pub(super) zones: usize,
    /// What all of them drop.
    pub(super) blocked: Blocked,
    /// What of it goes into the ledger, where there is one: `record` of the zones.
    pub(super) record: &'static str,
    /// Its lines for each processor, a power of two.
    pub(super) lines: u32,
}

impl Plan {
    /// What is measured where nothing else is said.
    pub(super) const USUAL: Self = Self {
        zones: 1,
        blocked: Blocked::Part,
        record: "summary",
        lines: FLOW_LINES_USUAL,
    };
}

/// Table, policy and destinations.
pub(super) struct Internet {
    /// What kordon's program is given.
    pub(super) image: Image,
    /// What it was compiled from.
    pub(super) policy: Policy,
    /// As `policy`.
    pub(super) db: AsnDb,
    /// As `policy`.
    pub(super) environment: Environment,
    /// Lines of the ledger for each processor.
    pub(super) lines: u32,
    /// Prefixes of the table with class and action, for the kernel's trie.
    pub(super) prefixes: Vec<(IpNet, u32, Action)>,
    /// The ASNs that are dropped, sorted by chance.
    pub(super) blocked: Vec<u32>,
    pools: HashMap<(Family, Action), Vec<Input>>,
    what: String,
}

impl Internet {
    /// Reads and compiles everything, and asks kordon's program what becomes of
    /// each prefix.
    pub(super) fn load(table: &Table, plan: Plan) -> Result<Self> {
        let (db, _) = asn::import(&table.files, &[]).context("cannot import the table")?;
        let mut rng = Rng::with_seed(SEED);
        let nets = prefixes(&db);
        let blocked = hostile(&db, &nets, plan.blocked, &mut rng);
        let named: HashSet<u32> = blocked.iter().copied().collect();
        let others = db.asns.iter().map(|(asn, _)| *asn);
        let others: Vec<u32> = others.filter(|asn| !named.contains(asn)).collect();
        ensure!(
            others.len() + 1 >= plan.zones,
            "the table has too few ASNs for {} zones of their own",
            plan.zones
        );
        let text = policy_text(plan.zones, &blocked, &others);
        let recorded = format!("{SOURCES}record = \"{}\"\n", plan.record);
        let policy = parsed(&db, &text.replace(SOURCES, &recorded))?;
        let environment = Environment {
            ports: vec![PortSpec::default()],
            ..Environment::default()
        };
        let mut directory = Directory::default();
        let image = Image::compile(&policy, &db, &environment, &mut directory)?;
        let mut prober = Prober::load(image.tier)?;
        prober.install(&image.rules, &image.table)?;

        let mut internet = Self {
            image,
            policy,
            db,
            environment,
            prefixes: Vec::with_capacity(nets.len()),
            blocked,
            lines: plan.lines,
            pools: HashMap::new(),
            what: table.what.clone(),
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
                // A policy may drop all there is of a family.
                if of_action.is_empty() {
                    continue;
                }
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

    /// Destinations with this fate; none where no prefix has it.
    pub(super) fn pool(&self, family: Family, action: Action) -> &[Input] {
        self.pools.get(&(family, action)).map_or(&[], Vec::as_slice)
    }

    /// Prefixes that would be dropped if these ASNs were blocked, as kordon's program says.
    pub(super) fn dropped(&self, blocked: &[u32]) -> Result<Vec<IpNet>> {
        let policy = parsed(&self.db, &policy_text(1, blocked, &[]))?;
        let mut directory = Directory::default();
        let image = Image::compile(&policy, &self.db, &self.environment, &mut directory)?;
        let mut prober = Prober::load(image.tier)?;
        prober.install(&image.rules, &image.table)?;
        let mut dropped = Vec::new();
        for family in Family::ALL {
            let nets = self.prefixes.iter().map(|(net, ..)| *net);
            let nets: Vec<IpNet> = nets.filter(|net| family.has(net.addr())).collect();
            let inputs: Vec<Input> = nets.iter().map(|net| octets(net.addr())).collect();
            let said = ask(&mut prober, family, &inputs)?;
            let said = nets.into_iter().zip(said);
            dropped.extend(
                said.filter_map(|(net, (_, action))| (action == Action::Drop).then_some(net)),
            );
        }
        Ok(dropped)
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
            "{}; {v4} IPv4 and {v6} IPv6 prefixes; {} ASNs blocked: {v4_dropped} and {v6_dropped} \
             prefixes dropped",
            self.what,
            self.blocked.len()
        )
    }
}

/// Class and action of each destination, in a frame of a camera.
fn ask(prober: &mut Prober, family: Family, inputs: &[Input]) -> Result<Vec<(u32, Action)>> {
    let said = prober.batch(
        &frame(family, Some(CAMERAS)),
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

/// A policy that must be valid.
pub(super) fn parsed(db: &AsnDb, text: &str) -> Result<Policy> {
    let (policy, found) = policy::parse(
        &Bundle::from_text("bench.toml", text),
        &Overlay::default(),
        &Context::now(Some(db)),
    );
    match policy {
        Some(policy) => Ok(policy),
        None => bail!("the policy is not valid: {found:?}"),
    }
}

/// Three ASNs that announce some prefixes and not many.
pub(super) fn some_asns(table: &Table) -> Result<[u32; 3]> {
    let (db, _) = asn::import(&table.files, &[]).context("cannot import the table")?;
    let mut announced: BTreeMap<u32, usize> = BTreeMap::new();
    for (_, origin) in prefixes(&db) {
        *announced.entry(origin).or_default() += 1;
    }
    let some = announced
        .iter()
        .filter(|(_, count)| (2..50).contains(*count));
    let some: Vec<u32> = some.map(|(asn, _)| *asn).take(3).collect();
    some.try_into()
        .map_err(|_| anyhow!("the table has too few ASNs of some prefixes"))
}

/// Prefixes of the table and who announces them first.
pub(super) fn prefixes(db: &AsnDb) -> Vec<(IpNet, u32)> {
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

/// The ASNs to be dropped.
fn hostile(db: &AsnDb, nets: &[(IpNet, u32)], blocked: Blocked, rng: &mut Rng) -> Vec<u32> {
    // IPv4 and IPv6 prefixes.
    let mut announced: HashMap<u32, [usize; 2]> = HashMap::new();
    for (net, origin) in nets {
        announced.entry(*origin).or_default()[usize::from(net.addr().is_ipv6())] += 1;
    }
    let mut asns: Vec<u32> = db.asns.iter().map(|(asn, _)| *asn).collect();
    rng.shuffle(&mut asns);
    match blocked {
        Blocked::Part => {
            let mut left = nets.len() / 20;
            asns.retain(|asn| match announced.get(asn) {
                Some([v4, v6]) if v4 + v6 <= left => {
                    left -= v4 + v6;
                    true
                }
                _ => false,
            });
        }
        Blocked::Asns(count) => {
            asns.sort_by_key(|asn| !announced.get(asn).is_some_and(|n| n[0] > 0 && n[1] > 0));
            asns.truncate(count);
        }
    }
    asns
}

/// Zones in the VLANs from [`CAMERAS`] on; the first also has frames without a tag. What
/// makes the rules of the others their own is one of `others` more.
pub(super) fn policy_text(zones: usize, asns: &[u32], others: &[u32]) -> String {
    let asns: Vec<String> = asns.iter().map(u32::to_string).collect();
    let mut text = format!(
        "[set.hostile]\nasns = [{}]\n\
         [zone.cameras]\nvlans = [{CAMERAS}, \"untagged\", \"{PROVIDER}.{CAMERAS}\"]\n{SOURCES}\
         [[rule]]\nname = \"hostile\"\nfrom = \"cameras\"\nto = \"hostile\"\naction = \"drop\"\n",
        asns.join(", ")
    );
    for (zone, other) in (1..zones).zip(others) {
        let vlan = usize::from(CAMERAS) + zone;
        write!(
            text,
            "[zone.cameras-{zone}]\nvlans = [{vlan}]\n{SOURCES}\
             [set.own-{zone}]\nasns = [{other}]\n\
             [[rule]]\nname = \"hostile-{zone}\"\nfrom = \"cameras-{zone}\"\n\
             to = [\"hostile\", \"own-{zone}\"]\naction = \"drop\"\n"
        )
        .expect("writing to a string cannot fail");
    }
    text
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

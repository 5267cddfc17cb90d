//! MaxMind DB files, beside MaxMind's own reader.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use fastrand::Rng;
use ipnet::IpNet;
use kordon::asn;
use kordon_tests::formats::{self, Mmdb, Value};
use maxminddb::Reader;
use serde_json::Value as Json;

use super::{counted, mutate::Corpus};

/// The number in a record, under the names that are written here; `Err`: it is written in
/// another way, which kordon may know or not.
fn number(record: &Json) -> Result<Option<u64>, ()> {
    let (plain, text) = (&record["autonomous_system_number"], &record["asn"]);
    match (plain.as_u64(), text.as_str()) {
        (Some(asn), _) => Ok(Some(asn)),
        (None, Some(text)) if plain.is_null() => {
            let digits = text.strip_prefix("AS").ok_or(())?;
            digits.parse().map(Some).map_err(drop)
        }
        _ if plain.is_null() && text.is_null() => Ok(None),
        _ => Err(()),
    }
}

/// Compares who announces some addresses.
fn compare(file: &Path, bytes: &[u8], rng: &mut Rng) -> String {
    fs::write(file, bytes).unwrap();
    let db = match asn::import(&[file.to_owned()], &[]) {
        Ok((db, found)) if found.warnings.is_empty() => db,
        Ok((_, found)) => return format!("damaged: {}", found.warnings[0].message),
        Err(error) => return format!("refused: {}", error.0.errors[0].message),
    };
    let Ok(reader) = Reader::from_source(bytes) else {
        return "only ours".to_owned();
    };
    let mut same = 0;
    for _ in 0..60 {
        let address: IpAddr = match rng.bool() {
            true => Ipv4Addr::from_bits(0x0100_0000 | rng.u32(..0x1000)).into(),
            false => Ipv6Addr::from_bits(0x2001_0db8 << 96 | rng.u128(..) >> 32).into(),
        };
        let found = reader.lookup(address);
        // All of IPv4 as one is a default route.
        if (found.as_ref().ok())
            .and_then(|found| found.network().ok())
            .is_none_or(|net| net.is_ipv4() != address.is_ipv4() || net.prefix() < 16)
        {
            continue;
        }
        let record = found.and_then(|found| found.decode::<Json>());
        // It reads all of a record, and of a damaged one refuses it for what nobody asks for.
        let Ok(record) = record else { continue };
        let Ok(theirs) = record.as_ref().map_or(Ok(None), number) else {
            continue;
        };
        let theirs = theirs.filter(|asn| *asn != 0);
        let ours: Vec<u64> = db
            .origins_at(address)
            .iter()
            .map(|asn| (*asn).into())
            .collect();
        assert_eq!(
            ours,
            Vec::from_iter(theirs),
            "{address}: left: ours, right: theirs"
        );
        same += usize::from(theirs.is_some());
    }
    format!("same {}", same.min(3))
}

fn any_file(rng: &mut Rng) -> Vec<u8> {
    let mut file = Mmdb::new(true);
    for block in 0..16u32 {
        let len = rng.u8(24..=32);
        let v4 = Ipv4Addr::from_bits(0x0100_0000 | block << 8);
        let v6 = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(block) << 92);
        for net in [IpNet::new(v4.into(), len), IpNet::new(v6.into(), len + 12)] {
            let asn = rng.u32(1..400_000);
            let value = match rng.bool() {
                true => ("autonomous_system_number", Value::Number(asn)),
                false => ("asn", Value::Text(format!("AS{asn}"))),
            };
            file.insert(net.unwrap(), &Value::Map(vec![value]));
        }
    }
    file.finish([24, 28, 32][rng.usize(..3)])
}

#[test]
fn mmdb_is_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("asn.mmdb");
    let mut rng = Rng::with_seed(6);
    let mut seeds: Vec<_> = [24, 28, 32].map(formats::small_mmdb).to_vec();
    seeds.extend((0..50).map(|_| any_file(&mut rng)));
    for seed in &seeds {
        assert_eq!(compare(&file, seed, &mut rng), "same 3");
    }
    counted(Corpus::new(seeds, [], 16 << 10), |input| {
        let said = compare(&file, input, &mut rng);
        let said: String = said.split('`').step_by(2).collect();
        said.replace(|c: char| c.is_ascii_digit(), "")
    });
}

//! Damage that a checksum does not find.

use super::*;
use crate::asn::model::{OriginRange, Row};

/// A file whose checksum is right and whose content is not.
#[test]
fn content_is_checked_besides_the_checksum() {
    let good = AsnDb {
        v4: vec![OriginRange {
            start: 1,
            end: 2,
            origins: 0,
        }],
        origins: vec![vec![7]],
        ..AsnDb::default()
    };
    let path = Path::new("x");
    assert_eq!(decode(&encode(&good), path).expect("good"), good);

    let mut no_origin = good.clone();
    no_origin.v4[0].origins = 1;
    let mut backwards = good.clone();
    backwards.v4[0].start = 3;
    let mut stray = good.clone();
    stray.rows_v4.push(Row {
        start: 1,
        end: 2,
        asn: 7,
        source: 0,
        line: 1,
    });
    for (db, expected) in [
        (
            no_origin,
            "snapshot `x` is malformed: a range has no origins",
        ),
        (
            backwards,
            "snapshot `x` is malformed: its ranges are not in order",
        ),
        (
            stray,
            "snapshot `x` is malformed: its rows are not in order",
        ),
    ] {
        let error = decode(&encode(&db), path).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }

    // A count that would need more memory than there is.
    let mut huge = encode(&good);
    huge[HEADER..HEADER + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    let crc = crc32fast::hash(&huge[HEADER..]);
    huge[12..16].copy_from_slice(&crc.to_le_bytes());
    let error = decode(&huge, path).expect_err("huge");
    assert_eq!(
        error.to_string(),
        "snapshot `x` is malformed: a section is longer than the file"
    );
}

//! Every text format, in rows as its publisher writes them.

use super::*;
use crate::asn::Country;

const PFX2AS: &str = "1.0.0.0\t24\t13335\n1.0.4.0\t22\t38803_56203\n2001:db8::\t32\t1,2\n";
const RISWHOIS: &str = "% RIPE RIS dump\n%\n\n13335\t1.0.0.0/24\t370\n{1,2}\t1.0.4.0/22\t300\n\
                        7\t1.0.5.0/24\t3\n4608\t2001:db8::/32\t10\n";
const TABLE_TXT: &str = "1.0.0.0/24 13335\n2001:db8::/32 4608\n";
const TABLE_JSONL: &str = "{\"CIDR\":\"1.0.0.0/24\",\"ASN\":13335,\"Hits\":1500}\n\
                           {\"CIDR\":\"1.0.4.0/22\",\"ASN\":38803,\"Hits\":1}\n\
                           {\"CIDR\":\"2001:db8::/32\",\"ASN\":4608,\"Hits\":900}\n";
const MAXMIND: &str = "network,autonomous_system_number,autonomous_system_organization\n\
                       1.0.0.0/24,13335,\"Cloudflare, \"\"Inc.\"\"\"\n28.0.0.0/7,749,DNIC\n";
const BLOCKS: &str = "network,geoname_id,registered_country_geoname_id,represented_country_geoname_id,is_anonymous_proxy,is_satellite_provider,is_anycast\n\
                      1.0.0.0/24,2077456,2077456,,0,0,\n1.0.1.0/24,,1814991,,0,0,\n1.0.2.0/24,,,,0,0,\n";
const LOCATIONS: &str = "geoname_id,locale_code,continent_code,continent_name,country_iso_code,country_name,is_in_european_union\n\
                         2077456,en,OC,Oceania,AU,Australia,0\n1814991,en,AS,Asia,CN,China,0\n6255148,en,EU,Europe,,,0\n";
const IPINFO: &str = "network,country,country_code,continent,continent_code,asn,as_name,as_domain\n\
                      1.0.0.0/24,Australia,AU,Oceania,OC,AS13335,\"Cloudflare, Inc.\",cloudflare.com\n\
                      1.0.1.7,China,CN,Asia,AS,,,\n2001:db8::/32,Norway,NO,Europe,EU,AS4608,APNIC,apnic.net\n";
const IPINFO_RANGES: &str = "start_ip,end_ip,country,country_name,continent,continent_name,asn,as_name,as_domain\n\
                             1.0.0.0,1.0.0.255,AU,Australia,OC,Oceania,AS13335,\"Cloudflare, Inc.\",cloudflare.com\n";
const IPINFO_JSONL: &str = "{\"network\":\"1.0.0.0/24\",\"country\":\"Australia\",\"country_code\":\"AU\",\"continent\":\"Oceania\",\"continent_code\":\"OC\",\"asn\":\"AS13335\",\"as_name\":\"Cloudflare, \\\"Inc.\\\"\",\"as_domain\":\"cloudflare.com\"}\n\
                            {\"network\":\"1.0.1.7\",\"country\":\"China\",\"country_code\":\"CN\",\"asn\":\"\"}\n\
                            {\"network\":\"2001:db8::/32\",\"country\":\"Norway\",\"country_code\":\"NO\",\"asn\":\"AS4608\",\"as_name\":\"APNIC\"}\n";
const IPINFO_JSON: &str = "[\n  {\n    \"start_ip\": \"1.0.0.0\",\n    \"end_ip\": \"1.0.0.255\",\n    \"country\": \"AU\",\n    \"asn\": 13335,\n    \"as_name\": null\n  },\n  { \"cidr\": \"2001:db8::/32\", \"asn\": \"AS4608\" }\n]\n";
const NUMBERS: &str = "16777216,16777471,13335,\"Cloudflare, Inc.\"\n\
                       42540766411282592856903984951653826560,42540766490510755371168322545197776895,4608,APNIC\n";
const NUMBERS_TSV: &str =
    "0\t16777215\t0\tNone\tNot routed\n16777216\t16777471\t13335\tUS\tCLOUDFLARENET\n";
const EMPTY_LENGTHS: &str = include_str!("../../../../tests/data/cases/vrp-empty-maxlen.csv");
const DELEGATED: &str = "2|apnic|20260101|8|19830613|20260101|+1000\napnic|*|asn|*|3|summary\n\
                         # a comment\napnic|JP|asn|173|2|20020801|allocated|A91A7381\n\
                         apnic|AU|ipv4|1.0.0.0|768|20110811|assigned|A91872ED\n\
                         apnic|NO|ipv6|2001:db8::|32|19990813|allocated|A9145D46\n\
                         apnic||ipv4|1.1.0.0|256||available|\napnic|ZZ|ipv4|1.2.0.0|256|20200101|reserved|x\n";
const AS2ORG: &str = "# name:AS Org\n# format:org_id|changed|org_name|country|source\n\
                      LVLT-ARIN|20120130|Level 3 Communications, Inc.|US|ARIN\n\
                      @family-1|20120130||NO|RIPE\n\
                      # format:aut|changed|aut_name|org_id|opaque_id|source\n\
                      1|20120224|LVLT-1|LVLT-ARIN|e5e3b9c13678dfc483fb1f819d70883c_ARIN|ARIN\n\
                      3356|20120224|LEVEL3|LVLT-ARIN|e5e3b9c13678dfc483fb1f819d70883c_ARIN|ARIN\n\
                      2|20120224|NORNET|@family-1||RIPE\n";
const AS2ORG_JSON: &str = "{\"changed\":\"20120130\",\"country\":\"US\",\"name\":\"Level 3 Communications, Inc.\",\"organizationId\":\"LVLT-ARIN\",\"source\":\"ARIN\",\"type\":\"Organization\"}\n\
                           {\"asn\":\"1\",\"changed\":\"20120224\",\"name\":\"LVLT-1\",\"opaqueId\":\"x\",\"organizationId\":\"LVLT-ARIN\",\"source\":\"ARIN\",\"type\":\"ASN\"}\n\
                           {\"asn\":\"3356\",\"changed\":\"20120224\",\"name\":\"LEVEL3\",\"opaqueId\":\"x\",\"organizationId\":\"LVLT-ARIN\",\"source\":\"ARIN\",\"type\":\"ASN\"}\n";
const ROUTINATOR_CSV: &str = "ASN,IP Prefix,Max Length,Trust Anchor\nAS13335,1.0.0.0/24,24,apnic\nAS38803,1.0.4.0/22,24,apnic\nAS0,1.0.8.0/22,32,apnic\n";
const RPKI_CLIENT_CSV: &str =
    "ASN,IP Prefix,Max Length,Trust Anchor,Expires\nAS13335,1.0.0.0/24,24,apnic,1700000000\n";
const ROUTINATOR_JSON: &str = "{\n  \"metadata\": { \"generated\": 1700000000 },\n  \"roas\": [\n\
    { \"asn\": \"AS13335\", \"prefix\": \"1.0.0.0/24\", \"maxLength\": 24, \"ta\": \"apnic\" },\n\
    { \"asn\": \"AS38803\", \"prefix\": \"1.0.4.0/22\", \"maxLength\": 24, \"ta\": \"apnic\" },\n\
    { \"asn\": \"AS0\", \"prefix\": \"1.0.8.0/22\", \"maxLength\": 32, \"ta\": \"apnic\" }\n  ]\n}\n";
const RPKI_CLIENT_JSON: &str = "{\"metadata\":{\"buildmachine\":\"x\",\"vrps\":1},\"roas\":[{\"asn\":13335,\"prefix\":\"1.0.0.0/24\",\"maxLength\":24,\"ta\":\"apnic\",\"expires\":1700000000}],\"bgpsec_keys\":[],\"aspas\":[{\"customer_asid\":1,\"providers\":[2]}]}";
const NAMES: &str = "asn,name,class,cc\nAS13335,\"Cloudflare, Inc.\",Content,US\nAS1,Level 3,,\n";

/// Every text above, by the name of its format.
pub(super) const ALL: [(&str, &str); 22] = [
    ("network-jsonl", IPINFO_JSONL),
    ("network-json", IPINFO_JSON),
    ("range-csv", NUMBERS),
    ("iptoasn", NUMBERS_TSV),
    ("pfx2as", PFX2AS),
    ("riswhois", RISWHOIS),
    ("prefix-asn", TABLE_TXT),
    ("table-jsonl", TABLE_JSONL),
    ("maxmind-asn-csv", MAXMIND),
    ("maxmind-locations-csv", LOCATIONS),
    ("network-csv", IPINFO),
    ("network-csv", IPINFO_RANGES),
    ("delegated", DELEGATED),
    ("as2org", AS2ORG),
    ("as2org", AS2ORG_JSON),
    ("vrp-csv", ROUTINATOR_CSV),
    ("vrp-csv", RPKI_CLIENT_CSV),
    ("vrp-json", ROUTINATOR_JSON),
    ("vrp-json", RPKI_CLIENT_JSON),
    ("asn-names", NAMES),
    ("country-prefixes", "1.0.0.0/24,AU\n2001:db8::/32,NO\n"),
    (
        "prefix-asn",
        "1.0.0.0/24,13335,\"Cloudflare, Inc.\"\n1.0.1.0/24,AS1,\n",
    ),
];

#[test]
fn content_says_what_a_file_is() {
    for (format, text) in ALL {
        for bytes in [
            text.as_bytes().to_vec(),
            format!("\u{feff}{}", text.replace('\n', "\r\n")).into_bytes(),
            gzip(text.as_bytes()),
            zst(text.as_bytes()),
            bz2(text.as_bytes()),
            xz(text.as_bytes()),
            text.replace('\n', "\r").into_bytes(),
        ] {
            let folder = Folder::new();
            let file = folder.file("x", bytes);
            let (db, found) = import(&[], &[file]).unwrap_or_else(|e| panic!("{format}: {e}"));
            assert_eq!(db.sources[0].format, format, "{text}");
            let warnings: Vec<_> = found
                .warnings
                .iter()
                .filter(|warning| !warning.message.starts_with("the last line"))
                .collect();
            assert!(warnings.is_empty(), "{format}: {warnings:?}");
            assert!(db.sources[0].rows > 0, "{format}");
        }
    }
}

#[test]
fn origins() {
    for (text, addr, expected) in [
        (PFX2AS, "1.0.0.1", "1.0.0.0/24 [13335] - -"),
        (PFX2AS, "1.0.5.1", "1.0.4.0/22 [38803 56203] - -"),
        (PFX2AS, "2001:db8::1", "2001:db8::/32 [1 2] - -"),
        (RISWHOIS, "1.0.0.1", "1.0.0.0/24 [13335] - -"),
        // Three peers see the more specific prefix: the wider one holds.
        (RISWHOIS, "1.0.5.1", "1.0.4.0/22 [1 2] - -"),
        (RISWHOIS, "2001:db8::1", "2001:db8::/32 [4608] - -"),
        (TABLE_TXT, "1.0.0.1", "1.0.0.0/24 [13335] - -"),
        (TABLE_JSONL, "1.0.0.1", "1.0.0.0/24 [13335] - -"),
        (TABLE_JSONL, "1.0.4.1", "- [] - -"),
        (
            MAXMIND,
            "1.0.0.1",
            "1.0.0.0/24 [13335] - Cloudflare, \"Inc.\"",
        ),
        (MAXMIND, "29.0.0.1", "28.0.0.0/7 [749] - DNIC"),
        (IPINFO, "1.0.0.1", "1.0.0.0/24 [13335] AU Cloudflare, Inc."),
        (
            IPINFO_JSONL,
            "1.0.0.1",
            "1.0.0.0/24 [13335] AU Cloudflare, \"Inc.\"",
        ),
        (IPINFO_JSONL, "1.0.1.7", "- [] CN -"),
        (IPINFO_JSONL, "2001:db8::1", "2001:db8::/32 [4608] NO APNIC"),
        (IPINFO_JSON, "1.0.0.1", "1.0.0.0/24 [13335] AU -"),
        (IPINFO_JSON, "2001:db8::1", "2001:db8::/32 [4608] - -"),
        (
            NUMBERS,
            "1.0.0.255",
            "1.0.0.0/24 [13335] - Cloudflare, Inc.",
        ),
        (NUMBERS, "2001:db8::1", "2001:db8::/32 [4608] - APNIC"),
        (
            NUMBERS_TSV,
            "1.0.0.1",
            "1.0.0.0/24 [13335] US CLOUDFLARENET",
        ),
        (IPINFO, "1.0.1.7", "- [] CN -"),
        (IPINFO, "2001:db8::1", "2001:db8::/32 [4608] NO APNIC"),
        (
            IPINFO_RANGES,
            "1.0.0.1",
            "1.0.0.0/24 [13335] AU Cloudflare, Inc.",
        ),
        (DELEGATED, "1.0.2.255", "- [] AU -"),
        (DELEGATED, "1.0.3.0", "- [] - -"),
        (DELEGATED, "2001:db8::", "- [] NO -"),
        (DELEGATED, "1.1.0.0", "- [] - -"),
        // Authorisations are no announcements.
        (ROUTINATOR_CSV, "1.0.0.1", "- [] - -"),
        (ROUTINATOR_JSON, "1.0.0.1", "- [] - -"),
    ] {
        assert_eq!(brief(&db(&[text], &[]), addr), expected, "{addr} in {text}");
    }
}

#[test]
fn peers_that_have_to_see_a_prefix() {
    let folder = Folder::new();
    let files = [folder.file("x", RISWHOIS)];
    let with = |min_peers| {
        let options = Options {
            min_peers,
            ..Options::default()
        };
        import_with(&files, &[], &options)
    };
    let (db, _) = with(3).unwrap();
    assert_eq!(brief(&db, "1.0.5.1"), "1.0.5.0/24 [7] - -");
    assert_eq!((db.sources[0].rows, db.sources[0].skipped), (5, 0));
    let (db, _) = with(301).unwrap();
    assert_eq!((db.sources[0].rows, db.sources[0].skipped), (1, 3));
    let error = with(371).unwrap_err();
    assert_eq!(error.0.errors[0].message, "no prefix is seen by 371 peers");
}

#[test]
fn maxmind_needs_its_locations() {
    let (db, _) = import_texts(&[BLOCKS, LOCATIONS], &[]).unwrap();
    let country = |addr: &str| {
        db.block_country(addr.parse().unwrap())
            .map(|c| c.to_string())
    };
    assert_eq!(country("1.0.0.1").as_deref(), Some("AU"));
    assert_eq!(country("1.0.1.1").as_deref(), Some("CN"));
    assert_eq!(country("1.0.2.1"), None);
    let error = import_texts(&[BLOCKS], &[]).unwrap_err();
    let help = error.0.errors[0].help.as_deref().unwrap();
    assert!(
        help.contains("GeoLite2-Country-Locations-en.csv"),
        "{error}"
    );
}

#[test]
fn registries_and_organisations() {
    let code = |text: &str| -> Country { text.parse().unwrap() };
    let db = db(&[DELEGATED, AS2ORG], &[]);
    assert_eq!(db.asns_in(code("JP")), [173, 174]);
    assert_eq!(db.asns_in(code("US")), [1, 3356]);
    assert_eq!(
        db.asn_info(3356).unwrap().name,
        "Level 3 Communications, Inc."
    );
    assert_eq!(db.asn_info(2).unwrap().name, "NORNET");
    for text in [AS2ORG, AS2ORG_JSON] {
        let db = super::db(&[text], &[]);
        for name in ["LVLT-ARIN", "lvlt-arin", " level 3 communications, inc. "] {
            assert_eq!(db.org(name).unwrap().asns, [1, 3356], "{name}");
        }
        assert_eq!(db.org_of(3356).unwrap().id, "LVLT-ARIN");
        let error = db.org("Level 3").unwrap_err();
        assert_eq!(error.to_string(), "there is no organisation `Level 3`");
        assert_eq!(
            error.help,
            "did you mean `Level 3 Communications, Inc.` (`LVLT-ARIN`)"
        );
        let error = db.org("LVLT-ARlN").unwrap_err();
        assert!(error.help.contains("LVLT-ARIN"), "{}", error.help);
    }
    let twins = "A-1|20260101|Twin|NO|RIPE\nA-2|20260101|twin|SE|RIPE\n1|20260101|X|A-1||RIPE\n\
                 2|20260101|X|A-2||RIPE\n3|20260101|X|A-2||RIPE\n";
    let error = super::db(&[twins], &[]).org("Twin").unwrap_err();
    assert_eq!(error.to_string(), "2 organisations are called `Twin`");
    assert_eq!(
        error.help,
        "name those that are meant by their ids: `A-1` (1 ASNs), `A-2` (2 ASNs)"
    );
    let error = super::db(&[TABLE_TXT], &[]).org("x").unwrap_err();
    assert_eq!(
        error.message,
        "no source says which organisations there are"
    );
}

#[test]
fn several_sources() {
    let folder = Folder::new();
    let files = [
        folder.file("a", "1.0.0.0/24 1\n1.0.1.0/24 2\n"),
        folder.file("b", "1.0.0.0/16 3\n1.0.0.0/24 4\n"),
    ];
    let combined = |combine| {
        let options = Options {
            combine,
            ..Options::default()
        };
        import_with(&files, &[], &options).unwrap().0
    };
    let union = combined(Combine::Union);
    assert_eq!(union.origins_at("1.0.0.1".parse().unwrap()), [1, 4]);
    assert_eq!(union.origins_at("1.0.1.1".parse().unwrap()), [2, 3]);
    assert_eq!(union.origins_at("1.0.2.1".parse().unwrap()), [3]);
    let evidence = union.evidence("1.0.1.1".parse().unwrap());
    let short: Vec<_> = evidence
        .iter()
        .map(|e| (e.asn, e.source.ends_with('a'), e.line, e.record, e.rpki))
        .collect();
    assert_eq!(short, [(2, true, 2, 0, None), (3, false, 1, 0, None)]);

    let first = combined(Combine::Priority);
    assert_eq!(first.origins_at("1.0.0.1".parse().unwrap()), [1]);
    assert_eq!(first.origins_at("1.0.1.1".parse().unwrap()), [2]);
    assert_eq!(first.origins_at("1.0.2.1".parse().unwrap()), [3]);
    let evidence = first.evidence("1.0.1.1".parse().unwrap());
    assert_eq!(evidence.len(), 1);
    assert_eq!(evidence[0].prefix, "1.0.1.0/24".parse().unwrap());

    // The evidence has exactly the origins.
    let folder = Folder::new();
    let path = folder.0.join("asn.db");
    for db in [union, first] {
        save(&db, &path).unwrap();
        let db = load(&path).unwrap();
        for last in 0..4 {
            let addr = std::net::IpAddr::from([1, 0, last, 1]);
            let asns: Vec<u32> = db.evidence(addr).iter().map(|e| e.asn).collect();
            assert_eq!(asns, db.origins_at(addr));
        }
    }
}

/// RFC 9582, section 4.3.2.2: without one, the longest length is that of the prefix.
#[test]
fn payloads_without_a_longest_length() {
    let json = "{\"roas\":[{\"asn\":64500,\"prefix\":\"203.0.113.0/24\"},\
                {\"asn\":\"AS64500\",\"prefix\":\"198.51.100.0/24\",\"maxLength\":null},\
                {\"asn\":64501,\"prefix\":\"198.51.100.0/24\",\"maxLength\":\"24\"}]}";
    for (payloads, format, skipped) in [(EMPTY_LENGTHS, "vrp-csv", 0), (json, "vrp-json", 1)] {
        let table = "203.0.113.0/24 64500\n203.0.113.0/25 64500\n";
        let (db, found) = import_texts(&[table, payloads], &[]).unwrap();
        assert_eq!(db.sources[1].format, format);
        assert_eq!(db.sources[1].skipped, skipped, "{found:?}");
        let state = |addr: &str| db.evidence(addr.parse().unwrap())[0].rpki;
        assert_eq!(state("203.0.113.200"), Some(Rpki::Valid), "{format}");
        assert_eq!(state("203.0.113.1"), Some(Rpki::Invalid), "{format}");
    }
}

#[test]
fn what_the_rpki_says() {
    let routes = "1.0.0.0/24 13335\n1.0.4.0/22 38803\n1.0.4.0/25 38803\n1.0.6.0/24 1\n\
                  1.0.8.0/24 7\n1.0.12.0/24 7\n";
    let (db, _) = import_texts(&[routes, ROUTINATOR_CSV], &[]).unwrap();
    for (addr, expected) in [
        ("1.0.0.1", Rpki::Valid),
        ("1.0.5.1", Rpki::Valid),
        // Longer than the payload allows.
        ("1.0.4.1", Rpki::Invalid),
        // Somebody else's.
        ("1.0.6.1", Rpki::Invalid),
        // AS0: nobody may.
        ("1.0.8.1", Rpki::Invalid),
        ("1.0.12.1", Rpki::NotFound),
    ] {
        let evidence = db.evidence(addr.parse().unwrap());
        assert_eq!(evidence.len(), 1, "{addr}");
        assert_eq!(evidence[0].rpki, Some(expected), "{addr}");
    }
    // Ranges that were joined say nothing of lengths.
    let ranges = "1.0.4.0,1.0.9.255,38803,X\n";
    let (db, _) = import_texts(&[ranges, ROUTINATOR_JSON], &[]).unwrap();
    let state = |addr: &str| db.evidence(addr.parse().unwrap())[0].rpki;
    assert_eq!(state("1.0.4.1"), Some(Rpki::Valid));
    assert_eq!(state("1.0.8.1"), Some(Rpki::Invalid));
}

#[test]
fn payloads_count_as_announcements_only_by_choice() {
    for text in [ROUTINATOR_CSV, ROUTINATOR_JSON] {
        let folder = Folder::new();
        let files = [folder.file("a", "1.0.0.0/16 1\n"), folder.file("b", text)];
        let options = Options {
            add_vrps: true,
            ..Options::default()
        };
        let (db, _) = import_with(&files, &[], &options).unwrap();
        assert_eq!(db.origins_at("1.0.0.1".parse().unwrap()), [1, 13335]);
        assert_eq!(db.origins_at("1.0.8.1".parse().unwrap()), [1]);
        assert_eq!(db.sources[1].rows, 2);
        let (db, _) = import(&files, &[]).unwrap();
        assert_eq!(db.origins_at("1.0.0.1".parse().unwrap()), [1]);
        assert_eq!(db.sources[1].rows, 3);
    }
}

#[test]
fn rows_that_cannot_be() {
    for (text, message) in [
        ("1.0.0.0\t33\t1\n", "`1.0.0.0\t33` is no prefix"),
        ("1.0.0.1\t24\t1\n", "`1.0.0.1\t24` is no prefix"),
        (
            "1.0.0.0\t24\t4294967296\n",
            "`4294967296` is not a list of origins",
        ),
        ("1.0.0.0\t24\t1_\n", "`1_` is not a list of origins"),
        (
            "1.0.0.0\t24\n",
            "a row of pfx2as (address, length, origins) needs address",
        ),
        ("1\t1.0.0.0/24\tmany\n", "a row of riswhoisdump"),
        ("1\t1.0.0.0/24\n", "a row of riswhoisdump"),
        ("1.0.0.0/24\n", "a row needs start, end"),
        ("1.0.0.0/24 x\n", "`x` is neither an AS number"),
        ("network,asn\n1.0.0.0/33,1\n", "`1.0.0.0/33` is no prefix"),
        (
            "network,asn\n1.0.0.0/24,AS\n",
            "`AS` is neither an AS number",
        ),
        ("network,asn\n", "it holds no rows"),
        (
            "start_ip,end_ip,asn,country\n1.0.0.1,1.0.0.0,1,NO\n",
            "all rows end before they start",
        ),
        (
            "apnic|AU|ipv4|1.0.0.0|0|20110811|assigned\n",
            "a row of a delegated file of a registry needs a block",
        ),
        (
            "apnic|AU|ipv4|255.255.255.0|512|20110811|assigned\n",
            "a row of a delegated file of a registry needs a block",
        ),
        (
            "apnic|AU|ipv6|2001:db8::1|32|20110811|assigned\n",
            "a row of a delegated file of a registry needs a block",
        ),
        (
            "apnic|AU|asn|4294967295|2|20110811|assigned\n",
            "a row of a delegated file of a registry needs a block",
        ),
        (
            "apnic|AU|asn|1|4294967295|20110811|assigned\n",
            "a row of a delegated file of a registry needs a block",
        ),
        (
            "apnic|AU\n",
            "a row of a delegated file of a registry needs registry",
        ),
        ("a|b\n", "a row of AS organisations of CAIDA needs"),
        ("{\"CIDR\":1}\n", "a row of AS organisations of CAIDA needs"),
        (
            "ASN,IP Prefix,Max Length\nAS1,1.0.0.0/24,23\n",
            "a row of RPKI payloads as CSV needs a longest length",
        ),
        (
            "ASN,IP Prefix,Max Length\nAS1,1.0.0.0/24,33\n",
            "a row of RPKI payloads as CSV needs a longest length",
        ),
        (
            "ASN,IP Prefix,Max Length\nAS1,1.0.0.0/24,x\n",
            "a row of RPKI payloads as CSV needs an AS number",
        ),
        ("{\"roas\":[{\"asn\":1}]}", "record 1 is damaged"),
        (
            "{\"roas\":[{\"asn\":1,\"prefix\":\"1.0.0.0/24\",\"maxLength\":9}]}",
            "a row of RPKI payloads",
        ),
        ("{\"roas\":[", "the document ends too early"),
        ("{\"roas\":{}}", "it is no JSON document of RPKI payloads"),
        ("{\"metadata\":1}", "it holds no rows"),
    ] {
        let error = match import_texts(&[text], &[]) {
            Err(error) => error,
            Ok((db, found)) => panic!("{text}: {:?} {found:?}", db.sources),
        };
        let said = &error.0.errors[0].message;
        let said = said.split("first: ").last().unwrap();
        let said = said.trim_start();
        assert!(
            said.starts_with(message) || error.0.errors[0].message.starts_with(message),
            "{text}: {said}"
        );
        assert!(error.0.errors[0].help.is_some());
    }
}

/// Whatever is missing at the end, nothing panics, and what is taken is a part of
/// what the whole file says, or the file is refused.
#[test]
fn cut_at_any_byte() {
    for (format, text) in ALL {
        let whole = db(&[text], &[]);
        for len in 0..text.len() {
            let Ok((cut, found)) = import_texts(&[&text[..len]], &[]) else {
                continue;
            };
            if format.ends_with("-json") {
                assert!(
                    text[len..].trim().is_empty(),
                    "a document that is cut is none"
                );
                continue;
            }
            // The last line may be cut inside a number: that is said.
            let ended = text.as_bytes()[..len].ends_with(b"\n");
            assert!(
                ended
                    || found
                        .warnings
                        .iter()
                        .any(|w| w.message.contains("cut short")),
                "{format} at {len}: {found:?}"
            );
            assert!(cut.sources[0].rows <= whole.sources[0].rows, "{format}");
        }
    }
}

/// A compressed file that is cut is refused wherever that is; salvaged, it is a part of
/// the whole, and said to be.
#[test]
fn compressed_and_cut_at_any_byte() {
    let salvage = Options {
        salvage: true,
        ..Options::default()
    };
    let text: String = (0..200)
        .map(|i| format!("1.{i}.0.0/24 {}\n", 7 * i + 1))
        .collect();
    for packed in [gzip, zst, bz2, xz].map(|pack| pack(text.as_bytes())) {
        let folder = Folder::new();
        for len in 0..packed.len() {
            let files = [folder.file("x", &packed[..len])];
            assert!(import(&files, &[]).is_err(), "{len} of {}", packed.len());
            if let Ok((part, found)) = import_with(&files, &[], &salvage) {
                let said = &found.warnings.last().unwrap().message;
                assert!(said.ends_with("only what is before that is used"), "{said}");
                assert!(part.rows_v4.len() <= 200);
            }
        }
    }
}

/// A small file that expands without end takes time, and no memory.
#[test]
fn bombs() {
    let zeros = vec![b'7'; 64 << 20];
    let bomb = zst(&zeros);
    assert!(bomb.len() < 64 << 10);
    let folder = Folder::new();
    let error = import(&[folder.file("x", &bomb)], &[]).unwrap_err();
    assert!(error.to_string().contains("250 times its size"), "{error}");
    // A JSON text without end.
    let mut document = b"{\"roas\":[{\"asn\":\"".to_vec();
    document.extend_from_slice(&zeros);
    let error = import(&[folder.file("y", zst(&document))], &[]).unwrap_err();
    assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
    // Ten megabytes in one line of every format cost that line.
    for (format, text) in ALL.iter().filter(|(format, _)| !format.ends_with("-json")) {
        let long = format!("{text}{}\n", "x".repeat(10 << 20));
        let (db, found) = import_texts(&[&long], &[]).unwrap();
        assert_eq!(db.sources[0].format, *format);
        assert_eq!(found.warnings.len(), 1, "{format}: {found:?}");
    }
}

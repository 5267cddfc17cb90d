//! Countries, as the registries and policies name them: two letters. Which letters are a country:
//! ISO 3166-1 alpha-2, and what the regional Internet registries use beside it.

/// An ISO 3166 alpha-2 code, upper case ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country(pub [u8; 2]);

impl std::fmt::Display for Country {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("??"))
    }
}

impl std::str::FromStr for Country {
    type Err = ();

    /// Two ASCII letters, any case.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Ok(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => Err(()),
        }
    }
}

/// ISO 3166-1 alpha-2, sorted; with `AP`, `EU` and `XK`, which stand in the
/// registries' files.
const CODES: &str = "\
AD AE AF AG AI AL AM AO AP AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC \
EE EG EH ER ES ET EU FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY \
HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA \
LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY \
MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS \
RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM \
TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// What people write instead: reserved, former and Internet-only codes.
const MEANT: [(&[u8; 2], &str); 5] = [
    (b"UK", "GB"),
    (b"SU", "RU"),
    (b"EL", "GR"),
    (b"YU", "RS"),
    (b"TP", "TL"),
];

impl Country {
    /// Whether there is one with these letters.
    #[must_use]
    pub fn exists(self) -> bool {
        let mut codes = CODES.as_bytes().chunks(3);
        codes.any(|code| code[..2] == self.0)
    }

    /// What people mean who write letters that are no country, as `UK`.
    #[must_use]
    pub fn meant(self) -> Option<&'static str> {
        let mut meant = MEANT.iter();
        meant.find_map(|(written, meant)| (**written == self.0).then_some(*meant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole() {
        let codes: Vec<&str> = CODES.split(' ').collect();
        assert_eq!(codes.len(), 249 + 3);
        assert!(codes.is_sorted());
        assert!(codes.iter().all(|code| code.len() == 2));
        for (_, meant) in MEANT {
            assert!(codes.contains(&meant));
        }
    }
}

//! What the demo says: each claim as it is shown, a summary with the numbers,
//! and one JSON object for machines.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Map, Value};

/// What the demo is to show, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    WithoutKordonEverythingArrives,
    AllowedAsnWorks,
    BlockedAsnGetsNothing,
    OtherVlanReachesIt,
    SpoofedSourceDeliversNothing,
    ForgedInfrastructureDeliversNothing,
    BlockTakesEffectAtOnce,
    KillingTheControllerChangesNothing,
    CountersTellTheStory,
    HiddenTagsAreNoticed,
}

impl Claim {
    const ALL: [Self; 10] = [
        Self::WithoutKordonEverythingArrives,
        Self::AllowedAsnWorks,
        Self::BlockedAsnGetsNothing,
        Self::OtherVlanReachesIt,
        Self::SpoofedSourceDeliversNothing,
        Self::ForgedInfrastructureDeliversNothing,
        Self::BlockTakesEffectAtOnce,
        Self::KillingTheControllerChangesNothing,
        Self::CountersTellTheStory,
        Self::HiddenTagsAreNoticed,
    ];

    /// The field of the JSON object.
    const fn key(self) -> &'static str {
        match self {
            Self::WithoutKordonEverythingArrives => "without_kordon_everything_arrives",
            Self::AllowedAsnWorks => "allowed_asn_works",
            Self::BlockedAsnGetsNothing => "blocked_asn_gets_nothing",
            Self::OtherVlanReachesIt => "other_vlan_reaches_it",
            Self::SpoofedSourceDeliversNothing => "spoofed_source_delivers_nothing",
            Self::ForgedInfrastructureDeliversNothing => "forged_infrastructure_delivers_nothing",
            Self::BlockTakesEffectAtOnce => "block_takes_effect_at_once",
            Self::KillingTheControllerChangesNothing => "killing_the_controller_changes_nothing",
            Self::CountersTellTheStory => "counters_tell_the_story",
            Self::HiddenTagsAreNoticed => "hidden_tags_are_noticed",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::WithoutKordonEverythingArrives => "without kordon everything arrives",
            Self::AllowedAsnWorks => "with kordon a camera still reaches AS15169",
            Self::BlockedAsnGetsNothing => "of what it sends to AS12695 nothing arrives",
            Self::OtherVlanReachesIt => "the office (VLAN 30) reaches the same server",
            Self::SpoofedSourceDeliversNothing => {
                "a spoofed source gets nothing delivered to AS12695"
            }
            Self::ForgedInfrastructureDeliversNothing => {
                "a forged infrastructure packet delivers nothing"
            }
            Self::BlockTakesEffectAtOnce => "`kordon block AS12389` takes effect at once",
            Self::KillingTheControllerChangesNothing => "SIGKILL of the controller changes nothing",
            Self::CountersTellTheStory => "counters and metrics tell the story",
            Self::HiddenTagsAreNoticed => {
                "tags that are hidden from XDP are no way out, and `status` says so"
            }
        }
    }
}

/// One line of the summary's table.
#[derive(Clone, Debug)]
struct Row {
    what: String,
    sent: u64,
    arrived: u64,
}

/// Everything that was shown so far.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    shown: Vec<(Claim, bool)>,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            shown: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Prints a line of the story.
    pub(crate) fn say(&self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    /// Notes packets for the summary.
    pub(crate) fn measured(&mut self, what: &str, sent: u64, arrived: u64) {
        self.rows.push(Row {
            what: what.to_owned(),
            sent,
            arrived,
        });
    }

    /// Notes whether a claim holds. `problems` is empty when it does.
    pub(crate) fn claim(&mut self, claim: Claim, detail: &str, problems: &[String]) {
        let mark = if problems.is_empty() { "ok  " } else { "FAIL" };
        self.say(&format!("{mark}  {}", claim.text()));
        self.say(&format!("      {detail}"));
        for problem in problems {
            self.say(&format!("      problem: {problem}"));
        }
        self.shown.push((claim, problems.is_empty()));
    }

    /// Whether every claim was shown.
    pub(crate) fn ok(&self) -> bool {
        Claim::ALL.iter().all(|claim| self.holds(*claim))
    }

    fn holds(&self, claim: Claim) -> bool {
        self.shown.contains(&(claim, true)) && !self.shown.contains(&(claim, false))
    }

    /// Prints the summary, and the JSON line where it was asked for. `outcome`:
    /// what ended the demo early, or what else there is to say.
    pub(crate) fn finish(&self, outcome: &Result<Option<String>>) {
        self.say(&self.table());
        let holding = Claim::ALL
            .iter()
            .filter(|claim| self.holds(**claim))
            .count();
        let end = if outcome.is_err() {
            ", and the demo ended early"
        } else {
            ""
        };
        self.say(&format!(
            "{holding} of {} claims hold{end}",
            Claim::ALL.len()
        ));
        if let Ok(Some(text)) = outcome {
            self.say(text);
        }
        if self.json {
            let mut object: Map<String, Value> = Claim::ALL
                .iter()
                .map(|claim| (claim.key().to_owned(), self.holds(*claim).into()))
                .collect();
            object.insert("ok".to_owned(), (self.ok() && outcome.is_ok()).into());
            println!("{}", Value::Object(object));
        }
    }

    fn table(&self) -> String {
        let mut text = format!("\n{:<64}{:>8}{:>10}\n", "packets", "sent", "arrived");
        for Row {
            what,
            sent,
            arrived,
        } in &self.rows
        {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{what:<64}{sent:>8}{arrived:>10}");
        }
        text.push_str(
            "A connection that is answered sends more than the packet that asks for it.\n",
        );
        text
    }
}

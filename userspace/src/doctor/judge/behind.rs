//! What else is on configured interfaces: programs and filters of others, the guard, flowtables,
//! and queues.

use crate::{
    coverage::flowtables,
    doctor::{
        facts::{Facts, Filter, Link, More},
        finding::{Check, Finding},
    },
};

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (interface, link) in facts.devices() {
        let Some((link, more)) = link.and_then(|link| Some((link, link.more.as_ref()?))) else {
            continue;
        };
        let mut here = vec![xdp(link, more)];
        match &more.filters {
            Ok(filters) => {
                here.extend(others(link, filters));
                here.push(guard(facts, interface.guard, link, filters));
            }
            Err(why) => {
                here.push(Finding::unknown(Check::ForeignTc, why));
                here.push(Finding::unknown(Check::Guard, why));
            }
        }
        here.extend(queues(link));
        found.extend(here.into_iter().map(|finding| finding.about(&link.name)));
    }
    found.extend(flowtables(facts));
    found
}

fn xdp(link: &Link, more: &More) -> Finding {
    let name = &link.name;
    match &more.foreign {
        Err(why) => Finding::unknown(Check::ForeignXdp, why),
        Ok(None) => Finding::fine(
            Check::ForeignXdp,
            format!("no XDP program of somebody else is on `{name}`"),
        ),
        Ok(Some(words)) => {
            let (what, cure) = words
                .split_once("; ")
                .unwrap_or((words, "`ip link set dev DEVICE xdp off`"));
            Finding::problem(Check::ForeignXdp, format!("on `{name}`: {what}"), cure)
        }
    }
}

fn others(link: &Link, filters: &[Filter]) -> Vec<Finding> {
    let name = &link.name;
    let others: Vec<&Filter> = filters.iter().filter(|f| !f.is_guard()).collect();
    if others.is_empty() {
        return vec![Finding::fine(
            Check::ForeignTc,
            format!("no tc filter of somebody else is on `{name}`"),
        )];
    }
    let one = |filter: &&Filter| {
        let id = filter
            .program
            .map_or(String::new(), |id| format!(", program {id}"));
        Finding::note(
            Check::ForeignTc,
            format!(
                "a tc filter of somebody else is at ingress of `{name}` (`{}`{id}); it comes behind XDP, \
                 which has dropped what it must by then",
                filter.name
            ),
        )
        .cured(format!("nothing; `{}` takes it off", filter.cure))
    };
    others.iter().map(one).collect()
}

fn guard(facts: &Facts, is_wanted: bool, link: &Link, filters: &[Filter]) -> Finding {
    let name = &link.name;
    if !is_wanted {
        return Finding::note(
            Check::Guard,
            format!(
                "`guard = false` for `{name}`: tags that are hidden from the program are not noticed"
            ),
        );
    }
    if filters.iter().any(Filter::is_guard) {
        return Finding::fine(Check::Guard, format!("it is on `{name}`"));
    }
    let pinned = facts.pinned.as_ref();
    let is_attached = pinned
        .is_ok_and(|all| all.iter().any(|p| p.device == *name && p.mode.is_some()))
        || facts.judged_by(name).is_some();
    if !is_attached {
        return Finding::unknown(
            Check::Guard,
            format!("no program is on `{name}`, which it would be behind"),
        );
    }
    if facts.daemon.status().is_some() {
        return Finding::warning(
            Check::Guard,
            format!("the guard is not on `{name}`: somebody took it off"),
            "the daemon puts it back within a second; where it does not, its log says why",
        );
    }
    Finding::warning(
        Check::Guard,
        format!(
            "the guard is not on `{name}`: somebody took it off, and no daemon is there to put it back"
        ),
        "`systemctl start kordon`",
    )
}

fn queues(link: &Link) -> Option<Finding> {
    if link.bus.as_deref() != Some("virtio") {
        return None;
    }
    let (receive, transmit) = link.queues;
    let name = &link.name;
    Some(if receive > 1 && transmit > 1 {
        Finding::fine(
            Check::Queues,
            format!("`{name}` is virtio with {receive} queues"),
        )
    } else {
        Finding::note(
            Check::Queues,
            format!("`{name}` is virtio with {receive} receive queue: one CPU does all of the work"),
        )
        .cured(
            "give the virtual machine as many queues as CPUs (QEMU: `queues=N` of the netdev, `mq=on` of the \
             device; Proxmox: `queues=N`)",
        )
    })
}

fn flowtables(facts: &Facts) -> Vec<Finding> {
    let tables = match &facts.flowtables {
        Ok(tables) => tables,
        Err(why) => return vec![Finding::unknown(Check::Flowtable, why)],
    };
    let (links, policed) = facts.seen();
    let gaps = flowtables::gaps(tables, &links, &policed);
    let found = gaps
        .into_iter()
        .map(|gap| Finding::gap(Check::Flowtable, gap));
    let mut found: Vec<Finding> = found.collect();
    if found.is_empty() {
        found.push(Finding::fine(
            Check::Flowtable,
            "no flowtable leads packets of policed interfaces past the CPU",
        ));
    }
    found
}

//! `release-guard`: nothing is held any more. And `boot-guard`, for its unit: what is to be held is
//! written down, where no daemon has done so since the configuration is what it is.

use serde_json::json;

use super::{
    arguments::Instance,
    failure::Failure,
    output::Output,
    view::{Page, list, text},
};
use crate::{
    bootguard, config, daemon,
    policy::{Bundle, Context, Overlay, parse},
};

pub(super) fn release(output: &mut Output) -> Result<(), Failure> {
    let Some(held) = bootguard::held()? else {
        return Err(Failure::new(
            "what is held cannot be seen or lifted: this machine has no `nft`, or its kernel no nftables",
            "`apt-get install nftables`, or the like",
        ));
    };
    for device in &held {
        bootguard::release(device)?;
    }
    output.answer(&json!({ "released": held }), |value| {
        let mut page = Page(String::new());
        let released = list(&value["released"]);
        if released.is_empty() {
            page.line("nothing", "the boot guard holds nothing");
        }
        for device in released {
            let device = text(device);
            page.line(
                "released",
                format!("what comes from `{device}` is forwarded, until the next boot"),
            );
        }
        page.0
    })?;
    Ok(())
}

/// Of a policy with errors nothing is known: then everything is held.
pub(super) fn write(instance: &Instance) -> Result<(), Failure> {
    let path = instance.config_path();
    let (config, found) = config::load(&path);
    let Some(config) = config else {
        return Err(found.into());
    };
    let state = instance.state_dir.as_ref().unwrap_or(&config.state_dir);
    let policy = Bundle::read(&config.policy).ok();
    let context = Context::now(None);
    let policy = policy.and_then(|bundle| parse(&bundle, &Overlay::default(), &context).0);
    // What is there by now has the names that it has.
    let facts = links();
    daemon::hold_at_boot(state, &config, policy.as_ref(), facts.as_ref())
        .map_err(|why| Failure::new(why, "see to the room and the rights of the state folder"))
}

fn links() -> Option<daemon::RouterFacts> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    runtime.block_on(async {
        let mut network = daemon::RouterNetwork::connect().ok()?;
        network.facts().await.ok()
    })
}

//! Where tests make a publish, or a change in place, fail. Elsewhere nothing does.

use super::DatapathError;

/// What a change does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Maps of another tier are opened.
    Maps,
    /// The program that proves is loaded.
    Prober,
    /// The table is written and pinned.
    Table,
    /// Programs of another tier are loaded.
    Programs,
    /// Counters get their slots.
    Directory,
    /// The generation is pinned.
    Pin,
    /// The table is put where the generation looks for it.
    Place,
    /// The generation is put in the place of the live one: the commit.
    Swap,
    /// Programs end that may have seen the planes of before.
    Wait,
    /// The table of before is freed.
    Free,
    /// The slow path is put in place.
    Slow,
    /// A link that is pinned gets this controller's program.
    Adopt,
    /// An interface gets a new link.
    Attach,
    /// An interface gets the program of another tier.
    Follow,
    /// The live generation gets more classes.
    Classes,
    /// A part of the live table is changed.
    Amend,
    /// What was changed is asked for.
    Ask,
    /// Files get their names.
    Keep,
    /// Files get their old content back.
    Restore,
}

#[cfg(test)]
impl Step {
    /// All of a publish that are before its commit, and the commit.
    pub(crate) const BEFORE: [Self; 9] = [
        Self::Maps,
        Self::Prober,
        Self::Table,
        Self::Programs,
        Self::Slow,
        Self::Directory,
        Self::Pin,
        Self::Place,
        Self::Swap,
    ];
}

#[cfg(test)]
thread_local! {
    static FAULTS: std::cell::RefCell<Vec<Step>> = const { std::cell::RefCell::new(Vec::new()) };
    static PANICS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static MET: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Lets steps fail on this thread while something is done; whether one was met.
#[cfg(test)]
pub(crate) fn with<T>(steps: &[Step], work: impl FnOnce() -> T) -> (T, bool) {
    FAULTS.with_borrow_mut(|faults| *faults = steps.to_vec());
    let met = MET.replace(0);
    let done = work();
    FAULTS.with_borrow_mut(Vec::clear);
    (done, MET.replace(met) > 0)
}

/// As [`with`], but steps panic.
#[cfg(test)]
pub(crate) fn with_panics<T>(steps: &[Step], work: impl FnOnce() -> T) -> (T, bool) {
    PANICS.set(true);
    let done = with(steps, work);
    PANICS.set(false);
    done
}

/// A step begins.
pub(crate) fn reach(step: Step) -> Result<(), DatapathError> {
    #[cfg(test)]
    if FAULTS.with_borrow(|faults| faults.contains(&step)) {
        MET.set(MET.get() + 1);
        assert!(!PANICS.get(), "a test panics at `{step:?}`");
        return Err(DatapathError::new(
            format!("do `{step:?}`"),
            "a test says so",
        ));
    }
    let _ = step;
    Ok(())
}

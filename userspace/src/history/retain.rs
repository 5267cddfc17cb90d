//! Removes what is older than is to be kept, and of more than there is room for, the oldest.

use super::{
    HOUR,
    store::{HistoryError, Store, set},
};

/// Hours that are removed at once.
const STEP: i64 = 24;

impl Store {
    /// Removes what was seen before this hour (since 1970), a day of it at a time: who has set the clock wrong for a while
    /// does not lose all. Whether something was removed: flows may have lost their numbers.
    ///
    /// # Errors
    /// When the database says no: then nothing was removed.
    pub fn forget_before(&self, hour: i64) -> Result<bool, HistoryError> {
        self.run(|c| {
            let oldest: Option<i64> =
                c.query_row("SELECT min(hour) FROM hours", [], |row| row.get(0))?;
            let Some(oldest) = oldest.filter(|oldest| *oldest < hour) else {
                return Ok(false);
            };
            let hour = hour.min(oldest + STEP);
            let transaction =
                rusqlite::Transaction::new_unchecked(c, rusqlite::TransactionBehavior::Immediate)?;
            c.execute("DELETE FROM sums WHERE hour < ?1", [hour])?;
            c.execute("DELETE FROM hours WHERE hour < ?1", [hour])?;
            c.execute(
                "DELETE FROM flows WHERE id IN (SELECT id FROM flows EXCEPT SELECT flow FROM sums)",
                [],
            )?;
            let at = hour * HOUR;
            c.execute("DELETE FROM missing WHERE at < ?1", [at])?;
            c.execute("DELETE FROM silences WHERE until < ?1", [at])?;
            // What was in force is so until something else is.
            c.execute(
                "DELETE FROM events WHERE at < ?1 AND sequence < \
                 (SELECT max(sequence) FROM events WHERE action = 'state' AND at < ?1)",
                [at],
            )?;
            set(c, "kept_from", hour)?;
            transaction.commit()?;
            Ok(true)
        })
    }

    /// Removes the oldest days until it takes no more than so many bytes, and the last day stays. Files do not become
    /// smaller by that, and what is free in them is used again. Whether something was removed.
    ///
    /// # Errors
    /// When the database says no.
    pub fn shrink(&self, most: u64) -> Result<bool, HistoryError> {
        let mut is_shorter = false;
        loop {
            let used = self.run(|c| {
                let number =
                    |name: &str| c.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
                let pages = number("page_count")? - number("freelist_count")?;
                Ok(pages * number("page_size")?)
            })?;
            let (oldest, newest): (Option<i64>, Option<i64>) = self.run(|c| {
                c.query_row("SELECT min(hour), max(hour) FROM hours", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
            })?;
            let (Some(oldest), Some(newest)) = (oldest, newest) else {
                return Ok(is_shorter);
            };
            if u64::try_from(used).unwrap_or(0) <= most || newest - oldest < STEP {
                return Ok(is_shorter);
            }
            is_shorter |= self.forget_before(oldest + STEP)?;
        }
    }
}

//! Room for connections: whoever comes finds a place, and whoever holds more than his share
//! without using it makes way. Both servers, control and metrics, seat their clients here,
//! so that silent and slow ones cost nobody else's time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// How many may be there at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Connections of one party.
    pub(crate) each: usize,
    /// Connections of all.
    pub(crate) all: usize,
    /// Whether one more is let in where everybody is being served.
    pub(crate) stretches: bool,
}

/// Places for connections of parties `P`: users, or hosts.
#[derive(Debug)]
pub(crate) struct Room<P> {
    size: Size,
    /// By the order in which they came.
    places: Mutex<Places<P>>,
}

#[derive(Debug)]
struct Places<P> {
    next: u64,
    taken: BTreeMap<u64, Place<P>>,
}

#[derive(Debug)]
struct Place<P> {
    party: P,
    /// Whether the client is waited for: for its request, or until it takes its answer.
    idle: bool,
    leave: Arc<Notify>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat<P: PartialEq + Clone> {
    room: Arc<Room<P>>,
    number: u64,
    leave: Arc<Notify>,
}

impl<P: PartialEq + Clone> Room<P> {
    pub(crate) fn new(size: Size) -> Arc<Self> {
        let places = Mutex::new(Places {
            next: 0,
            taken: BTreeMap::new(),
        });
        Arc::new(Self { size, places })
    }

    /// A place for one more connection. Where there is none, the oldest idle connection
    /// goes: of the same party if that has its share, else of the party that has most.
    /// `None`: all of those are being served.
    pub(crate) fn enter(self: &Arc<Self>, party: P) -> Option<Seat<P>> {
        let mut places = self.places();
        let count = |party: &P| places.taken.values().filter(|p| p.party == *party).count();
        let crowded = if count(&party) >= self.size.each {
            Some(party.clone())
        } else if places.taken.len() >= self.size.all {
            let parties = places.taken.values().map(|place| &place.party);
            parties.max_by_key(|party| count(party)).cloned()
        } else {
            None
        };
        if let Some(crowded) = crowded {
            let mut taken = places.taken.iter();
            let oldest = taken.find(|(_, place)| place.party == crowded && place.idle);
            match oldest.map(|(number, _)| *number) {
                Some(number) => {
                    if let Some(place) = places.taken.remove(&number) {
                        place.leave.notify_one();
                    }
                }
                None if self.size.stretches => {}
                None => return None,
            }
        }
        let (number, leave) = (places.next, Arc::new(Notify::new()));
        places.next += 1;
        let place = Place {
            party,
            idle: true,
            leave: Arc::clone(&leave),
        };
        places.taken.insert(number, place);
        Some(Seat {
            room: Arc::clone(self),
            number,
            leave,
        })
    }

    fn places(&self) -> MutexGuard<'_, Places<P>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: PartialEq + Clone> Seat<P> {
    /// Says whether the client is waited for, or served.
    pub(crate) fn set_idle(&self, idle: bool) {
        if let Some(place) = self.room.places().taken.get_mut(&self.number) {
            place.idle = idle;
        }
    }

    /// Returns when somebody else has got the place.
    pub(crate) async fn lost(&self) {
        self.leave.notified().await;
    }
}

impl<P: PartialEq + Clone> Drop for Seat<P> {
    fn drop(&mut self) {
        self.room.places().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_lost(seat: &Seat<u32>) -> bool {
        seat.lost().now_or_never().is_some()
    }

    #[test]
    fn who_has_most_makes_way() {
        let room = Room::new(Size {
            each: 3,
            all: 4,
            stretches: false,
        });
        let mine: Vec<_> = (0..3).map(|_| room.enter(1).unwrap()).collect();
        // The fourth of one party costs its first, and nobody else's.
        let other = room.enter(2).unwrap();
        let fourth = room.enter(1).unwrap();
        assert!(is_lost(&mine[0]));
        // The room is full: the party with most gives.
        let third = room.enter(3).unwrap();
        assert!(is_lost(&mine[1]));
        assert!(![&mine[2], &other, &fourth, &third].into_iter().any(is_lost));
        // Who is served stays.
        for seat in [&mine[2], &fourth] {
            seat.set_idle(false);
        }
        drop(other);
        let fifth = room.enter(1).unwrap();
        fifth.set_idle(false);
        assert!(room.enter(1).is_none());
        fourth.set_idle(true);
        let sixth = room.enter(1).unwrap();
        assert!(is_lost(&fourth) && !is_lost(&sixth));
    }

    #[test]
    fn root_is_never_refused_and_places_come_back() {
        let room = Room::new(Size {
            each: 2,
            all: 2,
            stretches: true,
        });
        for _ in 0..100 {
            let seat = room.enter(0).unwrap();
            seat.set_idle(false);
        }
        let busy: Vec<_> = (0..5).map(|_| room.enter(0).unwrap()).collect();
        for seat in &busy {
            seat.set_idle(false);
        }
        assert!(room.enter(0).is_some());
        drop(busy);
        assert_eq!(room.places().taken.len(), 0);
    }
}

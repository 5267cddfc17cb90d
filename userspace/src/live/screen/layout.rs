//! Which columns a view has, which of them find room, and how wide they are.

use super::{
    columns::Column,
    items::{Item, Scope, View},
};
use crate::live::clean::width;

use Column as C;

/// A column of a view: how wide it is at least and at most, and how soon it is left out (0: never).
type Plan = (Column, usize, usize, u8);

const NETWORKS: [Plan; 11] = [
    (C::Network, 20, 60, 0),
    (C::Zone, 8, 20, 3),
    (C::Cameras, 7, 7, 6),
    (C::DropRate, 6, 6, 1),
    (C::PassRate, 6, 6, 2),
    (C::DropBits, 10, 10, 7),
    (C::PassBits, 10, 10, 7),
    (C::Dropped, 7, 7, 4),
    (C::Passed, 7, 7, 5),
    (C::Audited, 7, 7, 8),
    (C::Last, 9, 9, 9),
];

const CAMERAS: [Plan; 12] = [
    (C::Camera, 15, 39, 0),
    (C::Mac, 17, 17, 6),
    (C::Zone, 8, 20, 3),
    (C::Flows, 6, 6, 7),
    (C::DropRate, 6, 6, 1),
    (C::PassRate, 6, 6, 2),
    (C::DropBits, 10, 10, 8),
    (C::PassBits, 10, 10, 8),
    (C::Dropped, 7, 7, 4),
    (C::Passed, 7, 7, 5),
    (C::Audited, 7, 7, 9),
    (C::Last, 9, 9, 10),
];

const FLOWS: [Plan; 12] = [
    (C::Zone, 8, 20, 8),
    (C::Camera, 15, 39, 2),
    (C::To, 15, 39, 0),
    (C::Network, 16, 50, 7),
    (C::Service, 8, 10, 4),
    (C::Action, 6, 6, 1),
    (C::Why, 8, 24, 6),
    (C::Rate, 6, 6, 3),
    (C::Bits, 10, 10, 9),
    (C::Packets, 7, 7, 5),
    (C::Bytes, 8, 8, 10),
    (C::Last, 9, 9, 11),
];

/// Columns of this rank and above are for screens that have room for the words, too.
const EXTRA: u8 = 7;
/// So many cells more than the least are kept for words before that.
const MORE: usize = 20;
/// Cells between columns.
const GAP: usize = 2;

fn plan(view: View) -> &'static [Plan] {
    match view {
        View::Networks => &NETWORKS,
        View::Cameras => &CAMERAS,
        View::Flows => &FLOWS,
    }
}

/// All columns of a view, in their order.
pub fn columns(view: View) -> impl Iterator<Item = Column> {
    plan(view).iter().map(|(column, ..)| *column)
}

/// How wide each column of a view wants to be.
#[derive(Clone, Debug, Default)]
pub struct Needs(Vec<usize>);

impl Needs {
    /// Widens columns to what is in these lines. They never become narrower: a table that is another one
    /// each second cannot be read.
    pub fn widen<'a>(&mut self, view: View, items: impl Iterator<Item = &'a Item>) {
        self.0.resize(plan(view).len(), 0);
        for item in items {
            for (need, (column, ..)) in self.0.iter_mut().zip(plan(view)) {
                if !column.is_number() {
                    *need = (*need).max(width(&column.text(item)));
                }
            }
        }
    }
}

/// The columns that find room, and how wide they are. What is the same in all lines of a scope is said
/// above them, and has no column. The column that is sorted by has room before others.
pub fn layout(
    view: View,
    scope: &Scope,
    sorted: Column,
    room: usize,
    needs: &Needs,
) -> Vec<(Column, usize)> {
    let is_same = |column| match column {
        C::Zone => scope.network.is_some() || scope.camera.is_some(),
        C::Network => scope.network.is_some(),
        C::Camera | C::Mac => scope.camera.is_some(),
        _ => false,
    };
    let mut wanted: Vec<Plan> = plan(view)
        .iter()
        .zip(needs.0.iter().chain(std::iter::repeat(&0)))
        .filter(|((column, ..), _)| !is_same(*column))
        .map(|(&(column, least, most, rank), need)| {
            let most = most.min((*need).max(least));
            let rank = if column == sorted { rank.min(1) } else { rank };
            (column, least, most, rank)
        })
        .collect();
    let all = wanted.clone();
    wanted.sort_by_key(|(.., rank)| *rank);
    let (mut left, mut short) = (room, 0);
    let mut taken: Vec<Column> = Vec::new();
    for (column, least, most, rank) in wanted {
        let cells = least + if taken.is_empty() { 0 } else { GAP };
        // More columns are worth less than words that are not cut.
        let kept = if rank >= EXTRA { short } else { 0 };
        if cells + kept <= left {
            taken.push(column);
            left -= cells;
            short += most.saturating_sub(least).min(MORE);
        } else if rank == 0 {
            // The first column is there, however little there is of it.
            taken.push(column);
            left = 0;
        }
    }
    let mut chosen: Vec<(Column, usize, usize)> = all
        .into_iter()
        .filter(|(column, ..)| taken.contains(column))
        .map(|(column, least, most, _)| (column, least.min(room), most))
        .collect();
    // What is left goes where words are, a cell each in turn.
    while left > 0 {
        let before = left;
        for (_, cells, most) in &mut chosen {
            if *cells < *most && left > 0 {
                *cells += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    chosen
        .into_iter()
        .map(|(column, cells, _)| (column, cells))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_never_are_wider_than_there_is_room() {
        let needs = Needs(vec![30; 12]);
        for view in [View::Networks, View::Cameras, View::Flows] {
            for sorted in columns(view) {
                for width in 0..250 {
                    let layout = layout(view, &Scope::default(), sorted, width, &needs);
                    let cells: usize = layout.iter().map(|(_, cells)| cells).sum();
                    let gaps = GAP * layout.len().saturating_sub(1);
                    assert!(
                        cells + gaps <= width.max(20),
                        "{view:?} {sorted:?} {width}: {layout:?}"
                    );
                    let has = layout.iter().any(|(column, _)| *column == sorted);
                    assert!(has || width < 40, "{view:?} {sorted:?} {width}: {layout:?}");
                }
            }
        }
        let wide = layout(View::Flows, &Scope::default(), C::Rate, 200, &needs);
        assert!(wide.len() >= FLOWS.len() - 2, "{wide:?}");
    }
}

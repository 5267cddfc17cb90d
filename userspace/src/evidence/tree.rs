//! The Merkle tree over the records: its open right edge in memory, and the tiles that hold the rest.
//!
//! The hashes are those of RFC 6962, section 2.1, and the files those of C2SP `tlog-tiles` (tiles of height 8: up to
//! 256 hashes of 32 bytes). Leaf and node hashes, tile paths and proofs are the crate `tlog_tiles`. What is here is
//! what it leaves to its user: which hashes a growing log must remember, and where files are read and written.
//!
//! A log never needs more of its tree than the [`Edge`]: of each level the hashes that do not fill a tile yet. That is
//! what the partial tiles of a checkpoint hold, so opening a log costs a few files, whatever its size.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tlog_tiles::{EMPTY_HASH, Error, HASH_SIZE, Hash, HashReader, Tile, node_hash};

/// Levels of the tree in one tile: the only height that C2SP `tlog-tiles` has.
const HEIGHT: u8 = 8;
/// Hashes in a full tile.
pub(crate) const WIDTH: usize = 1 << HEIGHT;
/// The same, for what counts records.
pub(crate) const TILE: u64 = 1 << HEIGHT;

/// Path of a tile below the log's folder, such as `tile/0/x001/234` or `tile/1/000.p/17`.
///
/// `level` counts tiles (0 to 7, 0 being the leaves), `width` is 1 to 256 hashes.
pub(crate) fn tile_path(level: u8, n: u64, width: usize) -> PathBuf {
    let path = Tile::new(HEIGHT, level, n, hashes(width), false).path();
    // The crate writes the Go form, which has the height in it.
    PathBuf::from(path.replacen("tile/8/", "tile/", 1))
}

/// The folder in which all partial tiles with this place are.
pub(crate) fn partial_folder(level: u8, n: u64) -> PathBuf {
    tile_path(level, n, 1)
        .parent()
        .map_or_else(PathBuf::new, Path::to_owned)
}

fn hashes(width: usize) -> u32 {
    u32::try_from(width).unwrap_or(u32::MAX)
}

/// A tile as it is on disk: its hashes one after the other.
pub(crate) fn encode(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Reads a tile.
///
/// # Errors
///
/// What the kernel says, and [`io::ErrorKind::InvalidData`] if the file has not exactly `width` hashes.
pub(crate) fn read_tile(folder: &Path, level: u8, n: u64, width: usize) -> io::Result<Vec<Hash>> {
    let bytes = fs::read(folder.join(tile_path(level, n, width)))?;
    let (hashes, rest) = bytes.as_chunks::<HASH_SIZE>();
    if hashes.len() != width || !rest.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("has {} bytes instead of {}", bytes.len(), width * HASH_SIZE),
        ));
    }
    Ok(hashes.iter().copied().map(Hash).collect())
}

/// Root of a perfect subtree: `hashes` are a power of two.
fn perfect(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => EMPTY_HASH,
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            node_hash(perfect(left), perfect(right))
        }
    }
}

/// Of one level, what does not fill a tile.
#[derive(Clone, Debug, Default)]
struct Level {
    /// Full tiles to the left.
    tiles: u64,
    hashes: Vec<Hash>,
}

/// The right edge of a tree that grows. It holds 32 bytes for each leaf since the last [`Edge::settle`], and after that
/// less than 256 hashes a level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    size: u64,
    levels: Vec<Level>,
}

impl Edge {
    /// Reads the edge of a tree of `size` records from its partial tiles.
    ///
    /// # Errors
    ///
    /// With the path of the tile that cannot be read or has a wrong length.
    pub(crate) fn load(folder: &Path, size: u64) -> Result<Self, (PathBuf, io::Error)> {
        let mut levels = Vec::new();
        let (mut count, mut level) = (size, 0);
        while count > 0 {
            let tiles = count / TILE;
            let width = usize::from(count.to_le_bytes()[0]);
            let hashes = if width == 0 {
                Vec::new()
            } else {
                read_tile(folder, level, tiles, width)
                    .map_err(|error| (tile_path(level, tiles, width), error))?
            };
            levels.push(Level { tiles, hashes });
            count = tiles;
            level += 1;
        }
        Ok(Self { size, levels })
    }

    /// Leaves so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub(crate) fn push(&mut self, leaf: Hash) {
        self.add(0, leaf);
        self.size += 1;
    }

    fn add(&mut self, level: usize, hash: Hash) {
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        if let Some(level) = self.levels.get_mut(level) {
            level.hashes.push(hash);
        }
    }

    /// Lets go of the tiles that are full, lowest level first. `tile` gets the level, the place in it, and 256 hashes.
    ///
    /// # Errors
    ///
    /// The first that `tile` returns. What it has taken before is let go of, the rest is still here: the call can be
    /// repeated.
    pub(crate) fn settle<E>(
        &mut self,
        mut tile: impl FnMut(u8, u64, &[Hash]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut number = 0;
        while let Some(level) = self.levels.get_mut(usize::from(number)) {
            let mut roots = Vec::new();
            let mut result = Ok(());
            for full in level.hashes.chunks_exact(WIDTH) {
                result = tile(number, level.tiles, full);
                if result.is_err() {
                    break;
                }
                level.tiles += 1;
                roots.push(perfect(full));
            }
            level.hashes.drain(..roots.len() * WIDTH);
            number += 1;
            for root in roots {
                self.add(usize::from(number), root);
            }
            result?;
        }
        Ok(())
    }

    /// The tiles that are not full: level, place and 1 to 255 hashes. Of a settled edge.
    pub(crate) fn partials(&self) -> impl Iterator<Item = (u8, u64, &[Hash])> {
        (0..)
            .zip(&self.levels)
            .filter(|(_, level)| !level.hashes.is_empty())
            .map(|(number, level)| (number, level.tiles, level.hashes.as_slice()))
    }

    /// Root of the tree, RFC 6962, section 2.1. Of a settled edge: an unsettled one would be cut at other places.
    pub(crate) fn root(&self) -> Hash {
        // The edge, from left to right, as perfect trees that become smaller; then folded from the right.
        let mut trees = Vec::new();
        for level in self.levels.iter().rev() {
            debug_assert!(level.hashes.len() < WIDTH, "the edge is not settled");
            let mut rest = level.hashes.as_slice();
            while !rest.is_empty() {
                let (tree, after) = rest.split_at(1 << rest.len().ilog2());
                trees.push(perfect(tree));
                rest = after;
            }
        }
        trees
            .into_iter()
            .rev()
            .reduce(|right, left| node_hash(left, right))
            .unwrap_or(EMPTY_HASH)
    }
}

/// The tiles of a tree of `size` records, for `tlog_tiles` to make proofs from. What it reads is not trusted: the proof
/// is checked against the signed root.
pub(crate) struct Tiles<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) size: u64,
}

impl HashReader for Tiles<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let mut found = Vec::with_capacity(indexes.len());
        for &index in indexes {
            let place = Tile::from_index(HEIGHT, index);
            let (level, n) = (place.level(), place.level_index());
            let there = (self.size >> (level * HEIGHT)).saturating_sub(n * TILE);
            let width = usize::try_from(there).map_or(WIDTH, |there| there.min(WIDTH));
            if width == 0 {
                return Err(Error::IndexesNotInTree);
            }
            let tile = read_tile(self.folder, level, n, width).map_err(|error| {
                let path = tile_path(level, n, width);
                Error::InvalidInput(format!("`{}`: {error}", path.display()))
            })?;
            let whole = Tile::new(HEIGHT, level, n, hashes(width), false);
            found.push(whole.hash_at_index(&encode(&tile), index)?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use tlog_tiles::record_hash;

    use super::*;

    #[test]
    fn roots_of_certificate_transparency() {
        // The leaves and roots of the tests of certificate-transparency (merkletree, `merkle_tree_test`).
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let bytes = |text: &str| -> Vec<u8> {
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect()
        };
        let mut edge = Edge::default();
        for (size, expected) in roots.iter().enumerate() {
            assert_eq!(edge.root().0.to_vec(), bytes(expected), "{size}");
            if let Some(leaf) = leaves.get(size) {
                edge.push(record_hash(&bytes(leaf)));
            }
        }
        println!("9 roots equal those of certificate-transparency");
    }
}

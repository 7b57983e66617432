//! The epochs of a replay, from the footers of its files alone.
//!
//! Again and again the next rows of the file whose next row group has the lowest minimum event time
//! become an epoch (ties by the order of files). The schedule does not depend on the number of
//! workers; all pieces of a row group go to one of them, so that the highest event time before any
//! row is known.

/// What the footer says of a row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGroup {
    pub rows: u64,
    /// Position of its first row in the file.
    pub first_row: u64,
    /// Lowest and highest event time (ms), `None` without statistics.
    pub times: Option<(i64, i64)>,
    /// The highest event time (ms) of the groups before it in its partition; [`i64::MIN`] for none.
    pub highest_before: i64,
}

/// A part of a row group that is read as one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub epoch: u64,
    pub file: usize,
    pub group: usize,
    /// Rows of the group that come before, and rows to read.
    pub skip: u64,
    pub rows: u64,
    /// The position of the group among all groups that are read; it decides who reads it.
    pub group_number: usize,
    /// Nothing of the file comes after.
    pub last_of_file: bool,
}

/// The pieces of `files`, given the row groups of each that are wanted, in order of epochs from 1.
pub fn schedule(
    files: &[Vec<(usize, RowGroup)>],
    epoch_rows_max: usize,
    limit: Option<u64>,
) -> Vec<Piece> {
    let mut next = vec![0; files.len()];
    let mut left = limit.unwrap_or(u64::MAX);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut next_number = 0;
    while left > 0 {
        let lowest = (0..files.len())
            .filter_map(|file| {
                let (_, group) = files[file].get(next[file])?;
                Some((group.times.map_or(i64::MIN, |(low, _)| low), file))
            })
            .min();
        let Some((_, file)) = lowest else { break };
        let (group, about) = files[file][next[file]];
        next[file] += 1;
        // Without statistics only the reader of what came before knows the highest event time.
        let group_number = if about.times.is_some() { next_number } else { 0 };
        let mut skip = 0;
        while skip < about.rows && left > 0 {
            let rows = (about.rows - skip).min(epoch_rows_max as u64).min(left);
            let epoch = pieces.len() as u64 + 1;
            pieces.push(Piece {
                epoch,
                file,
                group,
                skip,
                rows,
                group_number,
                last_of_file: false,
            });
            skip += rows;
            left -= rows;
        }
        next_number += 1;
    }
    let mut seen = vec![false; files.len()];
    for piece in pieces.iter_mut().rev() {
        piece.last_of_file = !std::mem::replace(&mut seen[piece.file], true);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rows: u64, low: i64) -> RowGroup {
        RowGroup { rows, first_row: 0, times: Some((low, low + 9)), highest_before: i64::MIN }
    }

    fn short(pieces: &[Piece]) -> Vec<(usize, usize, u64, u64)> {
        pieces.iter().map(|p| (p.file, p.group, p.skip, p.rows)).collect()
    }

    #[test]
    fn the_file_that_is_furthest_behind_comes_next() {
        let files =
            [vec![(0, group(5, 0)), (1, group(4, 20))], vec![(0, group(2, 10)), (1, group(2, 20))]];
        let pieces = schedule(&files, 4, None);
        assert_eq!(
            short(&pieces),
            [(0, 0, 0, 4), (0, 0, 4, 1), (1, 0, 0, 2), (0, 1, 0, 4), (1, 1, 0, 2)]
        );
        assert_eq!(pieces.iter().map(|p| p.epoch).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(
            pieces.iter().filter(|p| p.last_of_file).map(|p| p.epoch).collect::<Vec<_>>(),
            [4, 5]
        );
        assert_eq!(pieces.iter().map(|p| p.group_number).collect::<Vec<_>>(), [0, 0, 1, 2, 3]);
    }

    #[test]
    fn a_limit_cuts_the_last_piece() {
        let pieces = schedule(&[vec![(3, group(10, 0)), (4, group(10, 1))]], 4, Some(9));
        assert_eq!(short(&pieces), [(0, 3, 0, 4), (0, 3, 4, 4), (0, 3, 8, 1)]);
        assert!(pieces[2].last_of_file);
    }
}

use super::super::tests::{Came, batch, key_column, random_rows, table};
use super::*;
use crate::core::tables::Retention;
use crate::features::trip::AsOfLookups;
use crate::features::window::naive::Random;
use crate::key_group::{for_each_group, worker_of_group};
use crate::state::groups::groups_of_worker;

/// A table that is moved from owners to owners.
struct Moved {
    table: AsOfTable,
    pieces: VersionPieces,
    passed: PieceKind,
    retention: Retention,
    owners: Vec<TableOwner>,
}

impl Moved {
    fn new(table: &AsOfTable, retention: Retention) -> Self {
        Moved {
            table: table.clone(),
            pieces: VersionPieces::new("versions_0".to_owned(), table),
            passed: passed_kind("passed".to_owned()),
            retention,
            owners: vec![TableOwner::new(table, retention).unwrap()],
        }
    }

    /// By row, the owner of its key.
    fn owners_of(&self, keys: &ArrayRef) -> Vec<usize> {
        let origin = (
            UInt32Array::from_value(0, keys.len()),
            UInt64Array::from_iter_values(0..keys.len() as u64),
        );
        let mut owners = Vec::new();
        let owner = |group| worker_of_group(group, self.owners.len());
        for_each_group(keys, &origin.0, &origin.1, |_, group| owners.push(owner(group))).unwrap();
        owners
    }

    fn complete(&mut self, rows: &[Came], watermark: i64) {
        let keys = key_column(rows.iter().map(|row| row.key), &self.table.key_type);
        let owners = self.owners_of(&keys);
        for (at, owner) in self.owners.iter_mut().enumerate() {
            let own = rows.iter().zip(&owners).filter(|(_, owner)| **owner == at);
            let own: Vec<Came> = own.map(|(row, _)| row.clone()).collect();
            owner.complete(&[batch(&self.table, &own)], watermark).unwrap();
        }
    }

    fn export(&self) -> Vec<Piece> {
        let owners = self.owners.iter().enumerate();
        let pieces = owners.flat_map(|(at, owner)| {
            owner.export(&self.pieces, groups_of_worker(at, self.owners.len())).unwrap()
        });
        pieces.collect()
    }

    fn go_on_with(&mut self, workers: usize) {
        let before = self.export();
        let passed = self.owners[0].export_passed(&self.passed).unwrap();
        let empty = || TableOwner::new(&self.table, self.retention).unwrap();
        self.owners = (0..workers).map(|_| empty()).collect();
        for piece in &before {
            let piece = Piece::decode(&piece.encode().unwrap()).unwrap();
            let owner = &mut self.owners[worker_of_group(piece.group, workers)];
            owner.import(&self.pieces, &piece).unwrap();
        }
        for owner in &mut self.owners {
            owner.import_passed(&self.passed, &passed).unwrap();
        }
        assert_eq!(self.export(), before);
    }
}

fn lookups() -> AsOfLookups {
    AsOfLookups { table: 0, columns: vec![2, 0, 1], age: true }
}

/// Whatever is asked, be it behind what is held for: what is there is the same.
#[test]
fn moved_versions_are_found_and_forgotten_as_if_they_had_stayed() {
    for seed in 1..=48 {
        let mut random = Random::new(seed);
        let types = [DataType::Utf8, DataType::Int64, DataType::UInt64];
        let (key_type, fine) = (&types[seed as usize % 3], seed % 2 == 0);
        let max_age_ms = [None, Some(0), Some(25)][seed as usize % 7 % 3];
        let table = table(key_type, max_age_ms, fine);
        let (history_ms, epochs) = ([0, 10][seed as usize % 4 / 2], seed as usize % 3);
        let retention = Retention { history_ms, epochs };
        let mut stayed = TableOwner::new(&table, retention).unwrap();
        let mut moved = Moved::new(&table, retention);
        let mut watermark = 0;
        for epoch in 0..60 {
            let rows = random_rows(&mut random, epoch, watermark - 15, true, fine);
            watermark += [0, 1, 7, 30][random.below(4) as usize];
            stayed.complete(&[batch(&table, &rows)], watermark).unwrap();
            moved.complete(&rows, watermark);
            if random.below(4) == 0 {
                moved.go_on_with(1 + random.below(3) as usize);
            }
            let asked: Vec<i64> = (watermark - 50..watermark + 25).collect();
            let keys = key_column(asked.iter().map(|_| Some(random.below(5))), key_type);
            let times: ArrayRef = Arc::new(Int64Array::from(asked));
            let wanted = stayed.answer(&lookups(), &keys, &times, None).unwrap();
            let owners = moved.owners_of(&keys);
            for (at, owner) in moved.owners.iter().enumerate() {
                let found = owner.answer(&lookups(), &keys, &times, None).unwrap();
                for (found, wanted) in found.iter().zip(&wanted) {
                    for row in (0..keys.len()).filter(|&row| owners[row] == at) {
                        let context = format!("seed {seed}, epoch {epoch}, row {row}");
                        assert_eq!(&found.slice(row, 1), &wanted.slice(row, 1), "{context}");
                    }
                }
            }
            let held = moved.owners.iter().map(TableOwner::held).sum::<usize>();
            assert_eq!(held, stayed.held(), "seed {seed}, epoch {epoch}");
        }
    }
}

#[test]
fn versions_of_another_table_are_refused() {
    let retention = Retention { history_ms: 0, epochs: 0 };
    let one = table(&DataType::Utf8, None, false);
    let mut moved = Moved::new(&one, retention);
    let rows = random_rows(&mut Random::new(3), 0, 0, false, false);
    moved.complete(&rows, 0);
    let pieces = moved.owners[0].export(&moved.pieces, 0..256).unwrap();
    let other = AsOfTable { name: "other".to_owned(), ..one };
    let other = VersionPieces::new("versions_0".to_owned(), &other);
    let refused = moved.owners[0].import(&other, &pieces[0]).unwrap_err();
    assert!(matches!(refused, StateError::OtherJob { .. }), "{refused}");
    let other = VersionPieces::new("versions_1".to_owned(), &moved.table);
    let refused = moved.owners[0].import(&other, &pieces[0]).unwrap_err();
    assert!(matches!(refused, StateError::OtherPart { .. }), "{refused}");
}

use super::super::tests::{Keyed, apply, random_batches, specs};
use super::*;
use crate::features::window::Aggregate;
use crate::features::window::naive::{Random, Row};
use crate::key_group::{KEY_GROUPS, worker_of_group};
use crate::state::groups::groups_of_worker;

/// Windows that are moved from owners to owners.
struct Moved {
    pieces: WindowPieces,
    make: Box<dyn Fn() -> KeyedWindows>,
    owners: Vec<KeyedWindows>,
    as_text: bool,
}

impl Moved {
    fn new(make: impl Fn() -> KeyedWindows + 'static, as_text: bool) -> Self {
        let owners = vec![make()];
        let key_type = if as_text { DataType::Utf8 } else { DataType::Int64 };
        let (id_type, specs) = (Some(&DataType::Int64), owners[0].specs.clone());
        let pieces = WindowPieces::new("windows_0".to_owned(), &key_type, id_type, &specs, &[]);
        Moved { pieces, make: Box::new(make), owners, as_text }
    }

    fn owner_of(&self, key: Option<i64>) -> usize {
        let group = match (key, self.as_text) {
            (None, _) => 0,
            (Some(key), true) => group_of_bytes(format!("k{key}").as_bytes()),
            (Some(key), false) => group_of_bytes(&key.to_le_bytes()),
        };
        worker_of_group(group, self.owners.len())
    }

    /// The answers to rows, each of its owner.
    fn apply(&mut self, rows: &[Keyed]) -> Vec<Vec<Option<f64>>> {
        let mut answers = vec![Vec::new(); rows.len()];
        for owner in 0..self.owners.len() {
            let is_own = |at: &usize| self.owner_of(rows[*at].0) == owner;
            let own: Vec<usize> = (0..rows.len()).filter(is_own).collect();
            let asked: Vec<Keyed> = own.iter().map(|&at| rows[at]).collect();
            let found = apply(&mut self.owners[owner], &asked, self.as_text);
            own.into_iter().zip(found).for_each(|(at, found)| answers[at] = found);
        }
        answers
    }

    fn export(&self) -> Vec<Piece> {
        let workers = self.owners.len();
        let of_owner = |(at, owner): (usize, &KeyedWindows)| {
            owner.export(&self.pieces, groups_of_worker(at, workers)).unwrap()
        };
        self.owners.iter().enumerate().flat_map(of_owner).collect()
    }

    fn go_on_with(&mut self, workers: usize) {
        let before = self.export();
        self.owners = (0..workers).map(|_| (self.make)()).collect();
        for piece in &before {
            let piece = Piece::decode(&piece.encode().unwrap()).unwrap();
            let owner = worker_of_group(piece.group, workers);
            self.owners[owner].import(&self.pieces, &piece).unwrap();
        }
        assert_eq!(self.export(), before, "what is exported of what was imported");
    }
}

fn bits(answers: &[Option<f64>]) -> Vec<Option<u64>> {
    answers.iter().map(|answer| answer.map(f64::to_bits)).collect()
}

const MOVES: [usize; 5] = [2, 3, 1, 3, 2];

#[test]
fn moved_windows_answer_as_if_they_had_stayed() {
    for seed in 1..=24 {
        let history_ms = [0, 10, 150][seed as usize % 3];
        let mut random = Random::new(seed * 31);
        let as_text = seed % 2 == 0;
        let mut stayed = KeyedWindows::new(specs(history_ms));
        let mut moved = Moved::new(move || KeyedWindows::new(specs(history_ms)), as_text);
        let mut moves = MOVES.into_iter().cycle();
        for (rows, watermark) in random_batches(seed, history_ms) {
            let (found, expected) = (moved.apply(&rows), apply(&mut stayed, &rows, as_text));
            for (i, row) in rows.iter().enumerate() {
                let context = format!("seed {seed}, watermark {watermark}: {row:?}");
                assert_eq!(bits(&found[i]), bits(&expected[i]), "{context}");
            }
            stayed.forget(watermark);
            moved.owners.iter_mut().for_each(|owner| owner.forget(watermark));
            if random.below(6) == 0 {
                moved.go_on_with(moves.next().unwrap());
            }
            for owner in &moved.owners {
                let held: usize = owner.windows.iter().map(Window::held).sum();
                assert_eq!(owner.rows(), held, "seed {seed}");
            }
        }
        let most = moved.owners.iter().map(KeyedWindows::keys).sum::<usize>();
        assert!(most > 0 && most <= 60, "seed {seed}: {most} keys");
    }
}

/// Rows in order need no places, and none are moved.
#[test]
fn rows_in_order_go_on_in_order() {
    let make = || KeyedWindows::new(specs(0)).with_rows_in_order(true);
    for seed in 1..=6 {
        let mut random = Random::new(seed);
        let (mut stayed, mut moved) = (make(), Moved::new(make, false));
        for batch in 0..40 {
            let row = |i: i64| Row {
                time: batch * 7 + i / 4,
                place: i,
                late: false,
                value: Some((i * i % 7) as f64),
            };
            let keyed = |i| (Some((i * 5 + batch) % 9), row(i));
            let rows: Vec<Keyed> = (0..28).map(keyed).collect();
            assert_eq!(moved.apply(&rows), apply(&mut stayed, &rows, false), "seed {seed}");
            if random.below(3) == 0 {
                moved.go_on_with(1 + random.below(3) as usize);
            }
        }
    }
}

/// Which keys are forgotten where they are too many does not depend on moves.
#[test]
fn the_keys_seen_least_lately_stay_those() {
    let ever = |aggregate| WindowSpec { aggregate, length_ms: WindowSpec::EVER, history_ms: 0 };
    let make = move || {
        let specs = vec![ever(Aggregate::Count), ever(Aggregate::TimeSinceLast)];
        KeyedWindows::new(specs).with_keys_max(Some(2 * KEY_GROUPS))
    };
    let mut random = Random::new(5);
    let (mut stayed, mut moved) = (make(), Moved::new(make, true));
    let mut moves = MOVES.into_iter().cycle();
    for batch in 0..60 {
        let row = |i| Row { time: batch, place: batch * 200 + i, late: false, value: Some(1.0) };
        let keyed = |i| (Some(random.below(1_200) as i64), row(i));
        let rows: Vec<Keyed> = (0..200).map(keyed).collect();
        assert_eq!(moved.apply(&rows), apply(&mut stayed, &rows, true), "batch {batch}");
        if batch % 7 == 3 {
            moved.go_on_with(moves.next().unwrap());
        }
    }
    let forgotten: u64 = moved.owners.iter().map(KeyedWindows::forgotten).sum();
    assert_eq!(forgotten, stayed.forgotten());
    assert!(forgotten > 3_000, "{forgotten}");
}

#[test]
fn keys_that_are_there_and_pieces_of_other_windows_are_refused() {
    let mut moved = Moved::new(|| KeyedWindows::new(specs(10)), false);
    moved.apply(&[(Some(1), Row { time: 0, place: 0, late: false, value: Some(1.0) })]);
    let piece = moved.export().remove(0);
    let twice = moved.owners[0].import(&moved.pieces, &piece).unwrap_err();
    assert!(matches!(twice, StateError::Damaged { .. }));
    let other = Moved::new(|| KeyedWindows::new(specs(11)), false);
    let refused = moved.owners[0].import(&other.pieces, &piece).unwrap_err();
    assert!(matches!(refused, StateError::OtherJob { .. }), "{refused}");
    let none = moved.owners[0].export(&moved.pieces, 0..piece.group).unwrap();
    assert!(none.is_empty());
}

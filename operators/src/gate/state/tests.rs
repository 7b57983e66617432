use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::features::window::naive::Random;
use crate::gate::Order;
use crate::key_group::{KEY_GROUPS, worker_of_group};
use crate::layout::CameAs;
use crate::sort::sorted;
use crate::state::groups::groups_of_worker;

fn layout() -> EventLayout {
    let event = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("key", DataType::Utf8, true),
    ]);
    EventLayout::new(&event, Some(0), Some(1), CameAs::Columns)
}

/// Rows behind each other's times, some without a key.
fn rows(random: &mut Random, count: u64, from: i64, first: u64) -> RecordBatch {
    let mut column = |of: &mut dyn FnMut(&mut Random) -> i64| -> Vec<i64> {
        (0..count).map(|_| of(random)).collect()
    };
    let times = column(&mut |random| from + random.below(40) as i64);
    let ids = column(&mut |random| random.below(1_000) as i64);
    let keys = column(&mut |random| random.below(300) as i64);
    let key = |key: &i64| (key % 7 > 0).then(|| format!("k{key}"));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(keys.iter().map(key).collect::<StringArray>()),
        Arc::new(Int64Array::from(times)),
        Arc::new(BooleanArray::from(vec![false; count as usize])),
        Arc::new(UInt32Array::from_value(1, count as usize)),
        Arc::new(UInt64Array::from_iter_values(first..first + count)),
        Arc::new(Int64Array::from_value(0, count as usize)),
    ];
    RecordBatch::try_new(layout().schema, columns).unwrap()
}

struct Moved {
    pieces: GatePieces,
    gates: Vec<OrderGate>,
}

fn gate() -> OrderGate {
    OrderGate::new(Order::EventTime, layout().order_columns(), layout().schema)
}

impl Moved {
    fn insert(&mut self, rows: &RecordBatch) {
        let workers = self.gates.len();
        let shares = crate::exchange::shares(&self.pieces.home, rows, workers).unwrap();
        for (gate, share) in self.gates.iter_mut().zip(shares) {
            share.into_iter().for_each(|share| gate.insert(&[share]).unwrap());
        }
    }

    fn export(&self) -> Vec<Piece> {
        let gates = self.gates.iter().enumerate();
        let of_gate = |(at, gate): (usize, &OrderGate)| {
            gate.export(&self.pieces, groups_of_worker(at, self.gates.len())).unwrap()
        };
        gates.flat_map(of_gate).collect()
    }

    fn go_on_with(&mut self, workers: usize) {
        let before = self.export();
        self.gates = (0..workers).map(|_| gate()).collect();
        for piece in &before {
            let piece = Piece::decode(&piece.encode().unwrap()).unwrap();
            let home = worker_of_group(piece.group, workers);
            self.gates[home].import(&self.pieces, &piece, 0).unwrap();
        }
        assert_eq!(self.export(), before);
    }
}

#[test]
fn moved_rows_leave_when_they_would_have_left() {
    let layout = layout();
    let (partition, offset) = (layout.partition, layout.offset);
    let routes =
        [Route::KeyGroup { key: 1, partition, offset }, Route::Origin { partition, offset }];
    for seed in 1..=20 {
        let mut random = Random::new(seed);
        let home = &routes[seed as usize % 2];
        let pieces = GatePieces::new("gate".to_owned(), &layout, home);
        let (mut stayed, mut moved) = (gate(), Moved { pieces, gates: vec![gate()] });
        let (mut watermark, mut most) = (0, 0);
        for epoch in 0..40 {
            let rows = rows(&mut random, epoch % 3 * 15, watermark, epoch * 100);
            stayed.insert(std::slice::from_ref(&rows)).unwrap();
            moved.insert(&rows);
            watermark += random.below(12) as i64;
            let wanted = stayed.release(watermark).unwrap();
            let left = moved.gates.iter_mut().map(|gate| gate.release(watermark).unwrap());
            let left: Vec<RecordBatch> = left.flatten().collect();
            let left = sorted(&left, &layout.schema, layout.order_columns()).unwrap();
            assert_eq!(wanted.unwrap_or(left.slice(0, 0)), left, "seed {seed}, epoch {epoch}");
            if random.below(4) == 0 {
                moved.go_on_with(1 + random.below(3) as usize);
            }
            let waiting = moved.gates.iter().map(OrderGate::rows).sum::<usize>();
            assert_eq!(waiting, stayed.rows(), "seed {seed}, epoch {epoch}");
            most = most.max(waiting);
        }
        assert!(most > 40, "seed {seed}: {most} rows");
    }
}

#[test]
fn rows_of_another_layout_or_home_are_refused() {
    let layout = layout();
    let (partition, offset) = (layout.partition, layout.offset);
    let by_key = Route::KeyGroup { key: 1, partition, offset };
    let by_id = Route::KeyGroup { key: 0, partition, offset };
    let pieces = |home| GatePieces::new("gate".to_owned(), &layout, home);
    let mut moved = Moved { pieces: pieces(&by_key), gates: vec![gate()] };
    moved.insert(&rows(&mut Random::new(1), 10, 0, 0));
    let piece = moved.export().remove(0);
    let refused = gate().import(&pieces(&by_id), &piece, 0).unwrap_err();
    assert!(matches!(refused, StateError::OtherJob { .. }), "{refused}");
    assert!(gate().export(&moved.pieces, 0..KEY_GROUPS).unwrap().is_empty());
    let mut taken_over = gate();
    taken_over.import(&moved.pieces, &piece, 77).unwrap();
    let released = taken_over.release(i64::MAX).unwrap().unwrap();
    assert!(layout.read_at(&released).values().iter().all(|&at| at == 77));
}

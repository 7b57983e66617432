use super::*;

fn of_times(controls: &Controls, times: &[i64]) -> Vec<u64> {
    let mut states = vec![u64::MAX; times.len()];
    for (control, rows) in controls.of_released(times) {
        states[rows].fill(control);
    }
    states
}

#[test]
fn in_order_of_event_time_a_switch_holds_from_the_watermark_on() {
    let mut controls = Controls::new(Order::EventTime, 4);
    assert_eq!(controls.complete(1, 50, &[]), 0);
    assert_eq!(of_times(&controls, &[10, 49]), [0, 0]);
    // What its own epoch lets go is before the watermark.
    assert_eq!(controls.complete(2, 70, &[1]), 1);
    assert_eq!(of_times(&controls, &[50, 69]), [0, 0]);
    // A late row that passes at once takes what holds then.
    assert_eq!(controls.complete(3, 70, &[]), 1);
    assert_eq!(of_times(&controls, &[3]), [1]);
    assert_eq!(controls.complete(4, 90, &[]), 1);
    assert_eq!(of_times(&controls, &[4, 70, 89]), [1, 1, 1]);
    assert_eq!(
        controls.decided(),
        [Switched { control: 1, since: Since::EventTime(70), epoch: 2 }]
    );
    assert_eq!(controls.decided(), []);
}

#[test]
fn what_is_scheduled_cuts_what_is_let_go_together() {
    let mut controls = Controls::new(Order::EventTime, 4).with_schedule(&[(70, 1), (80, 2)]);
    assert_eq!(controls.complete(1, 60, &[]), 0);
    assert_eq!(of_times(&controls, &[59]), [0]);
    assert_eq!(controls.complete(2, 75, &[]), 1);
    assert_eq!(of_times(&controls, &[2, 69, 70, 74]), [0, 0, 1, 1]);
    assert_eq!(controls.complete(3, 100, &[]), 2);
    assert_eq!(of_times(&controls, &[2, 75, 79, 80, 99]), [1, 1, 1, 2, 2]);
    assert_eq!(controls.complete(4, i64::MAX, &[]), 2);
    assert_eq!(of_times(&controls, &[2, 1_000]), [2, 2]);
}

#[test]
fn in_the_other_orders_epochs_decide_that_nobody_can_have_read() {
    for order in [Order::Epoch, Order::Arrival] {
        let mut controls = Controls::new(order, 4);
        assert_eq!(controls.complete(1, 50, &[]), 0);
        assert_eq!(controls.complete(2, 50, &[1]), 0);
        assert_eq!(controls.decided(), [Switched { control: 1, since: Since::Epoch(7), epoch: 2 }]);
        assert_eq!([6, 7, 8].map(|epoch| controls.of_epoch(epoch)), [0, 1, 1]);
        assert_eq!(controls.complete(5, 50, &[]), 0);
        assert_eq!(of_times(&controls, &[2, 60]), [0, 0]);
        assert_eq!(controls.complete(6, 50, &[]), 1);
        assert_eq!(of_times(&controls, &[2, 60]), [0, 0]);
        assert_eq!(controls.complete(7, 50, &[]), 1);
        assert_eq!(of_times(&controls, &[2, 60]), [1, 1]);
    }
}

#[test]
fn the_greatest_state_counts_whenever_it_was_told() {
    let mut controls = Controls::new(Order::Epoch, 0);
    // Two workers tell two switches, the first one in the later epoch.
    controls.complete(3, 0, &[2]);
    controls.complete(4, 0, &[1]);
    assert_eq!([4, 5, 6].map(|epoch| controls.of_epoch(epoch)), [2, 2, 2]);
    let mut controls = Controls::new(Order::EventTime, 0).with_schedule(&[(10, 5), (20, 4)]);
    assert_eq!(controls.complete(1, 30, &[]), 5);
    assert_eq!(of_times(&controls, &[9, 10, 20, 29]), [0, 5, 5, 5]);
}

/// Row by row, against the rule said in the plainest way: epochs let go rows below rising watermarks,
/// and late ones.
#[test]
fn each_row_has_the_state_that_the_rule_says() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut controls = Controls::new(Order::EventTime, 3);
        let (mut watermark, mut told, mut record) = (0, 0, Vec::new());
        let mut seen: Vec<(i64, u64)> = Vec::new();
        for epoch in 1..60 {
            let before = watermark;
            watermark += random.i64(0..20);
            let switches: Vec<u64> = (0..random.u64(0..3)).map(|n| told + 1 + n).collect();
            told += switches.len() as u64;
            // Late rows pass at once; the others are from the last watermark on.
            let late = if before > 0 { random.usize(0..3) } else { 0 };
            let mut times: Vec<i64> = (0..late).map(|_| random.i64(0..before)).collect();
            times.extend((before..watermark).filter(|_| random.bool()));
            times.sort_unstable();
            controls.complete(epoch, watermark, &switches);
            let held = record.last().map_or(0, |&(_, control)| control);
            let states = of_times(&controls, &times);
            assert_eq!(states, vec![held; times.len()], "seed {seed}, epoch {epoch}");
            seen.extend(times.into_iter().filter(|time| *time >= before).zip(states));
            record.extend(switches.iter().map(|&control| (watermark, control)));
        }
        let decided = controls.decided();
        let decided: Vec<(i64, u64)> = decided
            .iter()
            .map(|switched| match switched.since {
                Since::EventTime(time) => (time, switched.control),
                Since::Epoch(_) => unreachable!("seed {seed}"),
            })
            .collect();
        assert_eq!(decided, record, "seed {seed}");
        // The same rows, in epochs of another size and with the switches as they were recorded.
        let mut again = Controls::new(Order::EventTime, 9).with_schedule(&record);
        let (mut from, mut epoch) = (0, 0);
        seen.sort_unstable();
        while from < seen.len() {
            let to = (from + random.usize(1..40)).min(seen.len());
            // Rows of one time are let go together.
            let watermark = seen.get(to).map_or(i64::MAX, |row| row.0);
            let to = seen.partition_point(|row| row.0 < watermark);
            epoch += 1;
            again.complete(epoch, watermark, &[]);
            let times: Vec<i64> = seen[from..to].iter().map(|row| row.0).collect();
            let states: Vec<u64> = seen[from..to].iter().map(|row| row.1).collect();
            assert_eq!(of_times(&again, &times), states, "seed {seed}");
            from = to;
        }
    }
}

#[test]
fn switches_are_told_once() {
    let feed = ControlFeed::default();
    assert!(feed.take().is_empty());
    feed.switch_to(1);
    feed.clone().switch_to(2);
    assert_eq!(feed.take(), [1, 2]);
    assert!(feed.take().is_empty());
}

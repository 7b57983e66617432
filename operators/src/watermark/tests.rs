use super::*;
use crate::control::Controls;
use crate::gate::Order;

fn events(floors: &[i64]) -> StreamBounds {
    StreamBounds { allowed_lateness_ms: 10, holds_events: true, floors: floors.to_vec() }
}

fn table(holds_events: bool) -> StreamBounds {
    StreamBounds { allowed_lateness_ms: 100, holds_events, floors: vec![i64::MIN] }
}

fn reached(partition: u32, time: i64) -> Mark {
    Mark { partition, reached: Reached::Time(time) }
}

fn finished(partition: u32) -> Mark {
    Mark { partition, reached: Reached::Finished }
}

fn idle(partition: u32) -> Mark {
    Mark { partition, reached: Reached::Idle }
}

#[test]
fn the_slowest_partition_rules_and_the_watermark_never_falls() {
    let mut marks = Watermarks::new(&[events(&[100, 200])]);
    assert_eq!(marks.of_job(), 90);
    marks.apply(reached(0, 500));
    assert_eq!((marks.of_job(), marks.holding()), (190, vec![1]));
    marks.apply(reached(0, 400));
    marks.apply(reached(1, 450));
    assert_eq!(marks.of_job(), 440);
    marks.apply(finished(0));
    assert_eq!(marks.of_job(), 440);
    marks.apply(finished(1));
    assert_eq!((marks.of_job(), marks.holding()), (i64::MAX, vec![]));
}

#[test]
fn events_wait_for_tables_that_are_not_eager() {
    let mut marks = Watermarks::new(&[events(&[0]), table(true), table(false)]);
    marks.apply(reached(0, 1_000));
    assert_eq!((marks.of_job(), marks.holding()), (i64::MIN, vec![1]));
    marks.apply(reached(1, 1_050));
    assert_eq!((marks.of_job(), marks.of_stream(EVENTS)), (950, 990));
    marks.apply(finished(1));
    assert_eq!((marks.of_job(), marks.holding()), (990, vec![0]));
}

#[test]
fn an_idle_partition_holds_nothing_until_it_is_back() {
    let mut marks = Watermarks::new(&[events(&[0, 0]), table(true)]);
    marks.apply(reached(0, 1_000));
    marks.apply(reached(2, 500));
    assert_eq!((marks.of_job(), marks.holding()), (-10, vec![1]));
    marks.apply(idle(1));
    assert_eq!((marks.of_job(), marks.holding()), (400, vec![2]));
    marks.apply(idle(2));
    assert_eq!(marks.of_job(), 990);
    marks.apply(idle(0));
    assert_eq!(marks.of_job(), 1_001);
    marks.apply(reached(2, 800));
    marks.apply(reached(0, 2_000));
    assert_eq!((marks.of_job(), marks.holding()), (1_001, vec![2]));
    marks.apply(reached(2, 2_500));
    assert_eq!(marks.of_job(), 1_990);
}

#[test]
fn a_finished_partition_has_been_seen_when_the_others_are_idle() {
    let mut marks = Watermarks::new(&[events(&[0, 0])]);
    marks.apply(reached(0, 1_000));
    marks.apply(reached(1, 500));
    marks.apply(finished(0));
    assert_eq!(marks.of_job(), 490);
    marks.apply(idle(1));
    assert_eq!((marks.of_job(), marks.holding()), (1_001, vec![]));
}

#[test]
fn partitions_far_ahead_of_their_stream_are_known() {
    let mut marks = Watermarks::new(&[events(&[0, 0]), table(true)]);
    marks.apply(reached(0, 1_000));
    marks.apply(reached(2, 90_000));
    assert_eq!(marks.ahead(999), [0]);
    assert_eq!(marks.ahead(1_000), [] as [u32; 0]);
}

/// The definitions, read off all partitions each time.
struct Naive {
    bounds: Vec<StreamBounds>,
    /// Stream, highest event time, and whether it is idle, of each unfinished partition.
    open: BTreeMap<u32, (usize, i64, bool)>,
    highest: Vec<i64>,
    lowest: Vec<i64>,
    watermarks: Vec<i64>,
    job: i64,
}

impl Naive {
    fn new(bounds: &[StreamBounds]) -> Self {
        let partitions = bounds.iter().enumerate();
        let partitions =
            partitions.flat_map(|(stream, b)| b.floors.iter().map(move |&at| (stream, at, false)));
        let mut naive = Naive {
            bounds: bounds.to_vec(),
            open: (0..).zip(partitions).collect(),
            highest: vec![i64::MIN; bounds.len()],
            lowest: vec![i64::MAX; bounds.len()],
            watermarks: vec![i64::MIN; bounds.len()],
            job: i64::MIN,
        };
        naive.raise();
        naive
    }

    fn apply(&mut self, mark: Mark) {
        if let Reached::Joined { stream } = mark.reached {
            self.open.entry(mark.partition).or_insert((stream as usize, i64::MIN, false));
            return self.raise();
        }
        let Some((stream, highest, idle)) = self.open.get_mut(&mark.partition) else { return };
        match mark.reached {
            Reached::Time(time) => {
                (*highest, *idle) = (time.max(*highest), false);
                self.highest[*stream] = time.max(self.highest[*stream]);
            }
            Reached::From(time) => self.lowest[*stream] = time.min(self.lowest[*stream]),
            Reached::Idle => *idle = true,
            Reached::Finished => drop(self.open.remove(&mark.partition)),
            Reached::Joined { .. } => unreachable!("see above"),
        }
        self.raise();
    }

    fn active(&self, stream: usize) -> Vec<(u32, i64)> {
        let active = self.open.iter().filter(|(_, p)| p.0 == stream && !p.2);
        active.map(|(&number, p)| (number, p.1)).collect()
    }

    fn has_open(&self, stream: usize) -> bool {
        self.open.values().any(|partition| partition.0 == stream)
    }

    fn waited_for(&self) -> Vec<usize> {
        let is_idle = |stream: usize| self.has_open(stream) && self.active(stream).is_empty();
        let streams = 0..self.bounds.len();
        streams.filter(|&s| self.bounds[s].holds_events && (s == EVENTS || !is_idle(s))).collect()
    }

    fn raise(&mut self) {
        for stream in 0..self.bounds.len() {
            let lowest = self.active(stream).iter().map(|(_, highest)| *highest).min();
            let watermark = match lowest {
                Some(lowest) => lowest.saturating_sub(self.bounds[stream].allowed_lateness_ms),
                None if !self.has_open(stream) => i64::MAX,
                None if self.highest[stream] > i64::MIN => self.highest[stream].saturating_add(1),
                None => i64::MIN,
            };
            self.watermarks[stream] = self.watermarks[stream].max(watermark);
        }
        let lowest = self.waited_for().into_iter().map(|stream| self.watermarks[stream]).min();
        self.job = self.job.max(lowest.unwrap_or(i64::MAX));
    }

    fn holding(&self) -> Vec<u32> {
        let mut reached = BTreeMap::new();
        for stream in self.waited_for() {
            for (number, highest) in self.active(stream) {
                let lateness = self.bounds[stream].allowed_lateness_ms;
                reached.insert(number, highest.saturating_sub(lateness));
            }
        }
        let lowest = reached.values().min().copied();
        reached
            .into_iter()
            .filter(|(_, at)| Some(*at) == lowest)
            .map(|(number, _)| number)
            .collect()
    }

    fn ahead(&self, skew_max_ms: i64) -> Vec<u32> {
        let is_ahead = |stream: usize, highest: i64| {
            let lowest = self.active(stream).iter().map(|(_, highest)| *highest).min();
            lowest.is_some_and(|lowest| highest.saturating_sub(skew_max_ms) > lowest)
        };
        let ahead = self.open.iter().filter(|(_, p)| is_ahead(p.0, p.1));
        ahead.map(|(&number, _)| number).collect()
    }
}

#[test]
fn random_marks_move_the_watermarks_as_defined() {
    for seed in 1..=40u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % bound
        };
        let bounds: Vec<StreamBounds> = (0..4)
            .map(|stream| StreamBounds {
                allowed_lateness_ms: below(3) as i64 * 50,
                holds_events: stream == EVENTS || below(2) == 0,
                floors: (0..below(6)).map(|_| [i64::MIN, 0, 40][below(3) as usize]).collect(),
            })
            .collect();
        let partitions = bounds.iter().map(|bounds| bounds.floors.len() as u64).sum::<u64>();
        let (mut found, mut wanted) = (Watermarks::new(&bounds), Naive::new(&bounds));
        for step in 0..300 {
            let reached = match below(40) {
                0 if step > 100 => Reached::Finished,
                1..=8 => Reached::Idle,
                9 if step > 150 => Reached::Joined { stream: below(4) as u32 },
                10..=12 => Reached::From(step as i64 - 40 + below(60) as i64),
                // Ties, and times that fall back.
                _ => Reached::Time((step + below(60)) as i64 / 7 * 7),
            };
            let joins = matches!(reached, Reached::Joined { .. });
            let partition = if joins { partitions + below(4) } else { below(partitions + 4) };
            let mark = Mark { partition: partition as u32, reached };
            found.apply(mark);
            wanted.apply(mark);
            let what = format!("seed {seed}, step {step}, {mark:?}");
            assert_eq!(found.of_job(), wanted.job, "{what}");
            for (stream, watermark) in wanted.watermarks.iter().enumerate() {
                assert_eq!(found.of_stream(stream), *watermark, "{what}, stream {stream}");
                let last = wanted.active(stream).into_iter().map(|(_, highest)| highest).max();
                let last = last.unwrap_or(i64::MIN).max(wanted.highest[stream]);
                let span = Span { first: wanted.lowest[stream], last };
                assert_eq!(found.seen(stream), span, "{what}, stream {stream}");
            }
            assert_eq!(found.holding(), wanted.holding(), "{what}");
            assert_eq!(found.ahead(25), wanted.ahead(25), "{what}");
        }
    }
}

#[test]
fn a_partition_that_joins_holds_the_watermark_where_it_is() {
    let mut marks = Watermarks::new(&[events(&[0])]);
    marks.apply(reached(0, 100));
    marks.apply(Mark { partition: 7, reached: Reached::Joined { stream: 0 } });
    marks.apply(reached(0, 200));
    assert_eq!((marks.of_job(), marks.holding()), (90, vec![7]));
    marks.apply(reached(7, 150));
    assert_eq!(marks.of_job(), 140);
    marks.apply(finished(0));
    marks.apply(idle(7));
    assert_eq!(marks.of_job(), 201);
}

/// A clock that moved says what one says that stayed, whatever comes.
#[test]
fn a_clock_goes_on_where_it_was() {
    use crate::features::window::naive::Random;
    use crate::state::Piece;

    for seed in 1..=40 {
        let mut random = Random::new(seed);
        let streams = [events(&[0, 30, 10]), table(seed % 2 == 0), table(true)];
        let make = || Progress::new(Watermarks::new(&streams));
        let (stayed, mut moved) = (make(), make());
        let kind = clock_kind("watermark".to_owned(), &stayed.watermarks());
        let mut clock = EpochClock::new(stayed.clone(), Controls::new(Order::EventTime, 1));
        for epoch in 1..60u64 {
            let partition = random.below(7) as u32;
            let time = epoch as i64 * 7 - random.below(60) as i64;
            let what = match random.below(14) {
                0 => Reached::Idle,
                1 if epoch > 40 => Reached::Finished,
                2 => Reached::Joined { stream: random.below(3) as u32 },
                3 | 4 => Reached::From(time),
                _ => Reached::Time(time),
            };
            let mark = Mark { partition, reached: what };
            let mut clock_of_moved =
                EpochClock::new(moved.clone(), Controls::new(Order::EventTime, 1));
            clock.mark(epoch, [mark]);
            clock_of_moved.mark(epoch, [mark]);
            let ticks = [clock.next(|_| true), clock_of_moved.next(|_| true)];
            assert_eq!(ticks[0], ticks[1], "seed {seed}, {mark:?}");
            if random.below(3) == 0 {
                let piece = moved.export(&kind).unwrap();
                moved = make();
                moved.import(&kind, &Piece::decode(&piece.encode().unwrap()).unwrap()).unwrap();
            }
            let (found, wanted) = (moved.watermarks(), stayed.watermarks());
            assert_eq!(moved.epoch(), epoch);
            assert_eq!(found.holding(), wanted.holding(), "seed {seed}, {mark:?}");
            assert_eq!((found.ahead(5), found.active()), (wanted.ahead(5), wanted.active()));
            for stream in 0..3 {
                assert_eq!(found.of_stream(stream), wanted.of_stream(stream), "seed {seed}");
                assert_eq!(found.seen(stream), wanted.seen(stream), "seed {seed}");
            }
        }
    }
    let other = Watermarks::new(&[events(&[0])]);
    let kind = clock_kind("watermark".to_owned(), &other);
    let piece = Progress::new(other).export(&kind).unwrap();
    let two = Watermarks::new(&[events(&[0]), table(true)]);
    let kind = clock_kind("watermark".to_owned(), &two);
    assert!(Progress::new(two).import(&kind, &piece).is_err());
}

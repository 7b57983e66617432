//! What a run that ends when it has caught up cannot read: what is of open transactions, and what is
//! behind them.

use std::time::Duration;

use crate::sources::SourceError;
use crate::sources::inputs::Topics;
use crate::sources::kafka::begin::Place;
use crate::sources::kafka::ends::ends;

/// How long the cluster has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Says on standard error which partitions are held back, from where to where.
pub fn say_what_is_held_back<'a>(topics: &Topics, places: impl Iterator<Item = &'a Place>) {
    let places: Vec<&Place> = places.collect();
    match both_ends(topics, &places) {
        Ok(found) => {
            for (place, (stable, high)) in places.iter().zip(found) {
                if let Some(line) = held_back(place, stable, high) {
                    say!("{line}");
                }
            }
        }
        Err(error) => say!(
            "warning: whether open transactions hold something back could not be asked: {error}"
        ),
    }
}

/// Where the first open transaction of a partition begins, and its high watermark.
type BothEnds = (Option<u64>, Option<u64>);

/// Of each place, as far as its broker says.
fn both_ends(topics: &Topics, places: &[&Place]) -> Result<Vec<BothEnds>, SourceError> {
    let Topics { cluster, group, .. } = topics;
    let named = || places.iter().map(|place| (place.topic.as_str(), place.partition));
    let ask = |client| ends(&client, named(), ANSWER_TIMEOUT).map_err(|e| cluster.failed(&e));
    // In this order: what comes between the questions is not taken for held back.
    let high = ask(cluster.asking(group)?)?;
    Ok(ask(cluster.consumer(group)?)?.into_iter().zip(high).collect())
}

fn held_back(place: &Place, stable: Option<u64>, high: Option<u64>) -> Option<String> {
    let (stable, high) = stable.zip(high).filter(|(stable, high)| stable < high)?;
    let name = place.name();
    Some(format!(
        "warning: {name}: an open transaction holds back what is from offset {stable} to the high watermark, {high}; it can be read when the transaction has ended"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_behind_an_open_transaction_is_held_back() {
        let place = Place { partition: 3, ..Place::unknown("t") };
        assert_eq!(held_back(&place, Some(6), Some(6)), None);
        assert_eq!(held_back(&place, None, Some(6)), None);
        // The end has moved on between the questions.
        assert_eq!(held_back(&place, Some(7), Some(6)), None);
        let line = held_back(&place, Some(4), Some(6)).unwrap();
        assert!(line.contains(
            "t/3: an open transaction holds back what is from offset 4 to the high watermark, 6;"
        ));
    }
}

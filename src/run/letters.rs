//! What a run says of its dead letters, and whether there are too many of them.

use std::path::Path;

use driftline_operators::accounting::{Account, Counters};
use driftline_operators::dead_letter::Reason;
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::reasons::OfReason;

use super::numbers::thousands;
use super::outputs::Target;
use super::summary::shown;

/// How many there are by reason, the most frequent first, and the first of each.
pub fn lines(counters: &Counters, names: &PartitionNames) -> Vec<(&'static str, String)> {
    let letters = counters.dead_letters();
    let mut lines = vec![];
    if letters.rows() > 0 {
        lines.push(("dead letters", by_reason(&letters.by_rows())));
    }
    lines.extend(letters.by_rows().into_iter().map(|(reason, of)| {
        let name = names.get(of.first.partition).unwrap_or_default();
        let place = format!("{}, record {}", shown(Path::new(&name)), of.first.offset);
        ("first", format!("{}: {} ({place})", reason.name(), of.first.detail))
    }));
    lines
}

/// That those of an export are counted and no more, where that is so.
pub fn not_kept(target: &Target) -> Option<(&'static str, String)> {
    let said = "none were kept; --dead-letters DIR keeps them";
    target.files().is_none().then(|| ("letters in", said.to_owned()))
}

fn by_reason(letters: &[(Reason, &OfReason)]) -> String {
    let texts =
        letters.iter().map(|(reason, of)| format!("{} {}", thousands(of.rows), reason.name()));
    texts.collect::<Vec<_>>().join(", ")
}

/// Why a run has failed of which more than `share_max` of the records read are dead letters.
pub fn too_many(counters: &Counters, share_max: Option<f64>) -> Option<String> {
    let Account { read, dead_letters, .. } = counters.account();
    let share_max = share_max?;
    if dead_letters as f64 <= share_max * read as f64 {
        return None;
    }
    let reasons = by_reason(&counters.dead_letters().by_rows());
    let (letters, read) = (thousands(dead_letters), thousands(read));
    Some(format!(
        "{letters} of {read} records read are dead letters ({reasons}), more than the share of {share_max} \
         that job.max_dead_letter_share or --max-dead-letter-share allows; results are written"
    ))
}

#[cfg(test)]
mod tests {
    use driftline_operators::reasons::{First, Reasons};

    use super::*;

    #[test]
    fn a_share_is_of_the_records_read_and_may_be_reached() {
        let counters = Counters::default();
        counters.rows_read(100);
        let mut letters = Reasons::default();
        for offset in [7, 3] {
            letters.add(Reason::Late, First { partition: 0, offset, detail: "late".to_owned() });
        }
        counters.dead_letters_durable(&letters);
        assert_eq!(too_many(&counters, None), None);
        assert_eq!(too_many(&counters, Some(0.02)), None);
        let said = too_many(&counters, Some(0.019)).unwrap();
        assert!(said.starts_with("2 of 100 records read are dead letters (2 late), more than"));
        let names = PartitionNames::from(["topic/0".to_owned()]);
        assert_eq!(lines(&counters, &names)[0], ("dead letters", "2 late".to_owned()));
        assert!(lines(&counters, &names)[1].1.ends_with("record 3)"));
        assert!(too_many(&Counters::default(), Some(0.0)).is_none());
    }
}

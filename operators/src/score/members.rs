//! What models make of a micro-batch together.

use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::compute::{cast, concat, filter_record_batch};
use arrow::error::ArrowError;

use super::evaluate::{Evaluated, Evaluator, OfModel, Outcome, joined, of_features};
use super::lane::select;
use crate::control::Turn;
use crate::micro_batch::Part;
use crate::model::{ModelIdentity, Task};
use crate::numbers::Numbers;
use crate::routes::ensemble::{Ensemble, Policy, Together, of_row, score};
use crate::routes::table::Scores;
use crate::status::RowNote;

impl Evaluator {
    pub(super) fn of_ensemble(
        &mut self,
        at: usize,
        parts: Vec<Part<Turn>>,
        wait: Duration,
    ) -> Result<Outcome, ArrowError> {
        let routes = self.routes.clone();
        let ensemble = &routes.ensembles[at];
        let rows = parts.iter().map(|part| part.rows).sum::<usize>();
        let mut members = Vec::with_capacity(ensemble.members.len());
        for member in &ensemble.members {
            members.push(self.of_member(member.model, &parts, wait)?);
        }
        let mut took = members.iter().map(|member| member.took).sum::<Duration>();
        let (task, width) = {
            let ready = self.models.ensemble(at);
            (ready.task, ready.width)
        };
        let mut together: Vec<Result<Together, String>> = match ensemble.policy {
            Policy::Stacking { by } => {
                let (stacked, more) = self.stacked(by, at, &parts, &members, wait)?;
                took += more;
                stacked
            }
            _ => {
                let of_row = |row: usize| {
                    let said: Vec<_> = members.iter().map(|member| member.of(row)).collect();
                    let together = ensemble.together(task, width, &said);
                    together.ok_or_else(|| all_failed(&members, row))
                };
                (0..rows).map(of_row).collect()
            }
        };
        let mut confidences = Vec::with_capacity(rows);
        let (mut failed, mut predictions) = (Vec::new(), Vec::with_capacity(rows * width));
        for (row, together) in together.iter_mut().enumerate() {
            match together {
                Ok(Together { prediction, confidence }) => {
                    confidences.extend(*confidence);
                    predictions.append(prediction);
                }
                Err(why) => {
                    failed.push((row, std::mem::take(why)));
                    confidences.push(f64::NAN);
                    predictions.extend(std::iter::repeat_n(f64::NAN, width));
                }
            }
        }
        let notes = (0..rows).map(|row| note_of(ensemble, &members, row));
        let gives_doubles = self.models.ensemble(at).gives_doubles;
        let as_wide = |numbers| match gives_doubles {
            true => Numbers::Doubles(numbers),
            false => Numbers::Floats(Numbers::Doubles(numbers).into_floats()),
        };
        let has_own = ensemble.policy == Policy::WeightedAverage && task != Task::Regression;
        let evaluated = Evaluated {
            scores: Scores::Ensemble(at),
            parts,
            predictions: as_wide(predictions),
            width,
            task,
            confidences: has_own.then(|| as_wide(confidences)),
            inputs: Vec::new(),
            runs: vec![(rows, rows, took)],
            notes: Some(notes.collect()),
        };
        Ok(Outcome::of(evaluated, failed))
    }

    /// What a member says of rows; nothing of those that are kept from it.
    fn of_member(
        &mut self,
        model: usize,
        parts: &[Part<Turn>],
        wait: Duration,
    ) -> Result<OfMember, ArrowError> {
        let rows = parts.iter().map(|part| part.rows).sum::<usize>();
        let given = self.given(model, parts)?;
        let of = match &given {
            None => self.of_model(model, parts, wait)?,
            Some(given) => match select(parts, |row| given[row]) {
                none if none.is_empty() => OfModel::default(),
                parts => self.of_model(model, &parts, wait)?,
            },
        };
        let mut why = vec![None; rows];
        let places: Vec<usize> = match &given {
            None => (0..rows).collect(),
            Some(given) => (0..rows).filter(|&row| given[row]).collect(),
        };
        if let Some(given) = &given {
            let out_of_service = self.out_of_service(model);
            let kept = (0..rows).filter(|&row| !given[row]);
            kept.for_each(|row| why[row] = Some(out_of_service.clone()));
        }
        of.failed.into_iter().for_each(|(row, detail)| why[places[row]] = Some(detail));
        let slot = self.models.model(model);
        let (width, task) = (slot.ready.model.width(), slot.ready.model.task());
        let took = of.runs.iter().map(|(.., took)| *took).sum();
        let predictions = joined(of.predictions);
        let mut said = vec![Numbers::with_capacity(false, 0); rows];
        for (row, &place) in places.iter().enumerate().filter(|(_, place)| why[**place].is_none()) {
            said[place] = predictions.slice(row * width..(row + 1) * width);
        }
        let numbers = said.iter().map(|said| said.iter().collect()).collect();
        let identity = slot.ready.identity.clone();
        Ok(OfMember { identity, task, width, said, numbers, why, took })
    }

    /// The predictions of the model that has members' scores as its inputs, and what it took.
    fn stacked(
        &mut self,
        by: usize,
        at: usize,
        parts: &[Part<Turn>],
        members: &[OfMember],
        wait: Duration,
    ) -> Result<(Vec<Result<Together, String>>, Duration), ArrowError> {
        let routes = self.routes.clone();
        let ensemble = &routes.ensembles[at];
        let rows = parts.iter().map(|part| part.rows).sum::<usize>();
        let given = self.given(by, parts)?;
        let slot = self.models.model(by);
        let enriched = parts.first().map_or(0, |part| part.batch.num_columns());
        let fields = slot.ready.features.fields();
        let column = |(input, field): (usize, &crate::model_input::ModelInput)| {
            let data_type = fields[input].data_type();
            match field.column.checked_sub(enriched) {
                Some(member) => {
                    let OfMember { task, width, numbers, .. } = &members[member];
                    let neutral = ensemble.neutral(*task, *width);
                    let of_row = |numbers: &Vec<f64>| {
                        score(*task, if numbers.is_empty() { &neutral } else { numbers })
                    };
                    let scores = Float64Array::from_iter_values(numbers.iter().map(of_row));
                    cast(&scores, data_type)
                }
                None => {
                    let of_part = |part: &Part<Turn>| {
                        part.batch.column(field.column).slice(part.start, part.rows)
                    };
                    let pieces: Vec<ArrayRef> = parts.iter().map(of_part).collect();
                    concat(&pieces.iter().map(|piece| piece.as_ref()).collect::<Vec<_>>())
                }
            }
        };
        let columns = slot.ready.inputs.iter().enumerate().map(column);
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let features = RecordBatch::try_new(slot.ready.features.clone(), columns)?;
        let out_of_service = self.out_of_service(by);
        let mut together: Vec<Result<Together, String>> =
            (0..rows).map(|_| Err(out_of_service.clone())).collect();
        let given = given.unwrap_or_else(|| vec![true; rows]);
        let given_parts = select(parts, |row| given[row]);
        let features = filter_record_batch(&features, &given.clone().into())?;
        let places = (0..rows).filter(|&row| given[row]);
        let slot = self.models.model(by);
        let of = match given_parts.is_empty() {
            true => OfModel::default(),
            false => of_features(slot, &features, &given_parts, wait, &self.run),
        };
        let width = slot.ready.model.width();
        let took = of.runs.iter().map(|(.., took)| *took).sum();
        let predictions = joined(of.predictions);
        let places: Vec<usize> = places.collect();
        for (row, &place) in places.iter().enumerate() {
            let prediction = of_row(&predictions, width, row);
            together[place] = Ok(Together { prediction, confidence: None });
        }
        of.failed.into_iter().for_each(|(row, why)| together[places[row]] = Err(why));
        for (row, together) in together.iter_mut().enumerate() {
            if members.iter().all(|member| member.why[row].is_some()) {
                *together = Err(all_failed(members, row));
            }
        }
        Ok((together, took))
    }
}

/// What a member of an ensemble says, by row.
struct OfMember {
    identity: ModelIdentity,
    task: Task,
    width: usize,
    /// The predictions as it gives them, and as doubles; empty where it has failed.
    said: Vec<Numbers>,
    numbers: Vec<Vec<f64>>,
    why: Vec<Option<String>>,
    took: Duration,
}

impl OfMember {
    fn of(&self, row: usize) -> Option<&[f64]> {
        self.why[row].is_none().then_some(self.numbers[row].as_slice())
    }
}

fn all_failed(members: &[OfMember], row: usize) -> String {
    let why = members.iter().filter_map(|member| {
        member.why[row].as_ref().map(|why| format!("{}: {why}", member.identity.name))
    });
    format!("all members have failed: {}", why.collect::<Vec<_>>().join("; "))
}

/// What the metadata of a row says of the members.
fn note_of(ensemble: &Ensemble, members: &[OfMember], row: usize) -> RowNote {
    let said = ensemble.members.iter().zip(members).map(|(member, of)| {
        let numbers = of.said[row].texts();
        let confidence = match (of.task, of.of(row)) {
            (Task::Regression, Some(_)) => "null".to_owned(),
            (_, Some(_)) => of.said[row].largest(of.width).texts().remove(0),
            (_, None) => "0".to_owned(),
        };
        let error = of.why[row].as_ref().map(|why| format!(",\"error\":{}", text(why)));
        format!(
            "{{\"model\":{},\"version\":{},\"weight\":{},\"prediction\":[{}],\"confidence\":{confidence}{}}}",
            text(&of.identity.name),
            text(&of.identity.version),
            member.weight,
            numbers.join(","),
            error.unwrap_or_default()
        )
    });
    let said = format!("\"members\":[{}]", said.collect::<Vec<_>>().join(","));
    RowNote { member_failed: members.iter().any(|member| member.why[row].is_some()), said }
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

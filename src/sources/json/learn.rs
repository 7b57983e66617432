//! The columns of JSON lines, by the first of them.

use arrow::datatypes::{DataType, Field, Fields};
use indexmap::IndexMap;
use serde_json::Value;

use super::chunk::LineChunk;
use super::tokens::{Infinity, Mended, without_mark};
use crate::config::job::JsonType;
use crate::sources::columns::{ColumnUse, ColumnUses, declared_type};

/// Levels of objects within each other that are read; what is deeper is passed over.
const LEVELS_MAX: usize = 16;
/// Members of a column's objects, those of all levels together, that are read.
const MEMBERS_MAX: usize = 1_000;

/// What was learned of the columns of text.
#[derive(Debug, Default)]
pub struct Learned {
    pub fields: Vec<Field>,
    /// What was there and is no column, by name; members of objects by their path.
    pub untyped: IndexMap<String, Untyped>,
}

/// Why something is no column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untyped {
    /// Only nulls were seen.
    Null,
    List,
    /// An object that has no members of a known type.
    Empty,
    /// Objects with too many different members.
    Wide,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Truth,
    Integer,
    Number,
    Text,
    Object,
    List,
}

/// What was seen of a column, or of a member of an object.
#[derive(Default)]
struct Seen {
    /// How often, in the order of their first values.
    kinds: IndexMap<Kind, usize>,
    has_negatives: bool,
    /// Integers beyond those of Int64.
    has_large: bool,
    members: IndexMap<String, Seen>,
    is_wide: bool,
}

/// Columns of the sampled lines: as declared, else text, truth values, numbers as Float64, and objects
/// as structures of such. Ids and keys that are mostly integers stay integers, and parts of keys that
/// are nothing else; an event time that is a number is an integer, or of fractions if its unit is
/// named. A declared name may be the path to a member of an object, `a.b`.
pub fn infer(sample: &LineChunk, uses: &ColumnUses) -> Learned {
    let mut columns: IndexMap<String, Seen> = IndexMap::new();
    for text in (0..sample.len()).map(|line| sample.text(line)) {
        let Some((object, infinity)) = read(text) else { continue };
        for (name, value) in object {
            let seen = columns.entry(name).or_default();
            let mut room = MEMBERS_MAX.saturating_sub(seen.count());
            seen.add(value, infinity.as_ref(), LEVELS_MAX, &mut room);
        }
    }
    let mut learned = Learned::default();
    let (mut types, mut untyped): (IndexMap<String, DataType>, _) = Default::default();
    for (name, seen) in columns {
        let number = seen.number_type(&name, uses);
        if let Some(found) = seen.data_type(number, &name, &mut untyped) {
            types.insert(name, found);
        }
    }
    for (name, declared_as) in &uses.declared {
        declare(&mut types, &mut untyped, name, declared_type(*declared_as));
    }
    learned.fields = types.into_iter().map(|(name, to)| Field::new(name, to, true)).collect();
    learned.untyped = untyped;
    learned
}

/// Columns that nothing is known of but what is declared. A name with points may be that of a column
/// or the path to a member of an object: there are both.
pub fn declared_alone(declared: &IndexMap<String, JsonType>) -> Vec<Field> {
    let mut types: IndexMap<String, DataType> = IndexMap::new();
    for (name, declared_as) in declared {
        types.insert(name.clone(), declared_type(*declared_as));
    }
    for (path, declared_as) in declared {
        let Some((first, rest)) = path.split_once('.') else { continue };
        if !declared.contains_key(first) {
            let none = DataType::Struct(Fields::empty());
            let members = types.entry(first.to_owned()).or_insert(none);
            *members = with_member(members, rest, declared_type(*declared_as));
        }
    }
    types.into_iter().map(|(name, to)| Field::new(name, to, true)).collect()
}

/// Gives a column or a member of an object its type.
fn declare(
    types: &mut IndexMap<String, DataType>,
    untyped: &mut IndexMap<String, Untyped>,
    name: &str,
    to: DataType,
) {
    let is_known = types.contains_key(name) || untyped.contains_key(name) && !name.contains('.');
    let split = name.split_once('.').filter(|_| !is_known);
    let object = split.and_then(|(first, rest)| match types.get(first) {
        Some(object @ DataType::Struct(_)) => Some((first, rest, object.clone())),
        Some(_) => None,
        None => {
            let none = DataType::Struct(Fields::empty());
            untyped.shift_remove(first).map(|_| (first, rest, none))
        }
    });
    match object {
        Some((first, rest, object)) => {
            types.insert(first.to_owned(), with_member(&object, rest, to));
        }
        None => drop(types.insert(name.to_owned(), to)),
    }
    untyped.shift_remove(name);
}

/// The type of an object whose member at `path` is of type `to`.
fn with_member(object: &DataType, path: &str, to: DataType) -> DataType {
    let mut fields: Vec<Field> = match object {
        DataType::Struct(fields) => fields.iter().map(|field| field.as_ref().clone()).collect(),
        _ => Vec::new(),
    };
    let (name, rest) = match path.split_once('.') {
        // A member may have a point in its own name.
        Some((first, rest)) if !fields.iter().any(|field| field.name() == path) => {
            (first, Some(rest))
        }
        _ => (path, None),
    };
    let at = fields.iter().position(|field| field.name() == name);
    let none = DataType::Struct(Fields::empty());
    let to = match rest {
        Some(rest) => with_member(at.map_or(&none, |at| fields[at].data_type()), rest, to),
        None => to,
    };
    match at {
        Some(at) => fields[at] = Field::new(name, to, true),
        None => fields.push(Field::new(name, to, true)),
    }
    DataType::Struct(fields.into())
}

/// The object that a line is, and what stands for `Infinity` in it.
fn read(line: &[u8]) -> Option<(serde_json::Map<String, Value>, Option<Infinity>)> {
    let text = std::str::from_utf8(without_mark(line)).ok()?;
    let (value, infinity) = match serde_json::from_str(text) {
        Ok(value) => (value, None),
        Err(_) => {
            let Mended { text, infinity, .. } = Mended::new(text)?;
            (serde_json::from_str(&text).ok()?, Some(infinity))
        }
    };
    let Value::Object(object) = value else { return None };
    Some((object, infinity))
}

impl Seen {
    /// Members of all levels.
    fn count(&self) -> usize {
        self.members.values().map(|member| 1 + member.count()).sum()
    }

    /// `room`: for so many more members.
    fn add(&mut self, value: Value, infinity: Option<&Infinity>, levels: usize, room: &mut usize) {
        let kind = match value {
            Value::Null => return,
            Value::Bool(_) => Kind::Truth,
            Value::Number(number) if number.is_i64() || number.is_u64() => {
                self.has_negatives |= number.as_i64().is_some_and(|number| number < 0);
                self.has_large |= !number.is_i64();
                Kind::Integer
            }
            Value::Number(_) => Kind::Number,
            Value::String(text) if infinity.is_some_and(|i| i.of(&text).is_some()) => Kind::Number,
            Value::String(_) => Kind::Text,
            Value::Array(_) => Kind::List,
            Value::Object(members) => {
                self.add_members(members, infinity, levels, room);
                Kind::Object
            }
        };
        *self.kinds.entry(kind).or_default() += 1;
    }

    fn add_members(
        &mut self,
        members: serde_json::Map<String, Value>,
        infinity: Option<&Infinity>,
        levels: usize,
        room: &mut usize,
    ) {
        if levels == 0 {
            return;
        }
        for (name, value) in members {
            if !self.members.contains_key(&name) {
                if *room == 0 {
                    self.is_wide = true;
                    continue;
                }
                *room -= 1;
            }
            let member = self.members.entry(name).or_default();
            member.add(value, infinity, levels - 1, room);
        }
    }

    /// What numbers of the column `name` are read as.
    fn number_type(&self, name: &str, uses: &ColumnUses) -> DataType {
        let count = |kind: Kind| self.kinds.get(&kind).copied().unwrap_or_default();
        let (integers, fractions) = (count(Kind::Integer), count(Kind::Number));
        match uses.of(name) {
            ColumnUse::Time if uses.time_unit.is_some() && fractions > 0 => DataType::Float64,
            ColumnUse::Time => DataType::Int64,
            _ if uses.keys.contains(name) && integers > fractions => self.integer(),
            _ if uses.key_parts.contains(name) && fractions == 0 => self.integer(),
            _ => DataType::Float64,
        }
    }

    fn integer(&self) -> DataType {
        if self.has_large && !self.has_negatives { DataType::UInt64 } else { DataType::Int64 }
    }

    /// The most frequent type is the column's: what is otherwise is a bad record, not a bad column.
    fn data_type(
        self,
        number: DataType,
        path: &str,
        untyped: &mut IndexMap<String, Untyped>,
    ) -> Option<DataType> {
        let mut kinds: IndexMap<Kind, usize> = IndexMap::new();
        for (kind, count) in self.kinds {
            let kind = if kind == Kind::Integer { Kind::Number } else { kind };
            *kinds.entry(kind).or_default() += count;
        }
        let most = kinds.iter().rev().max_by_key(|(_, count)| **count);
        let why = match most.map(|(kind, _)| *kind) {
            Some(Kind::Truth) => return Some(DataType::Boolean),
            Some(Kind::Integer | Kind::Number) => return Some(number),
            Some(Kind::Text) => return Some(DataType::Utf8),
            Some(Kind::Object) => {
                let members = self.members.into_iter().filter_map(|(name, member)| {
                    let path = format!("{path}.{name}");
                    Some(Field::new(
                        name,
                        member.data_type(DataType::Float64, &path, untyped)?,
                        true,
                    ))
                });
                let members: Vec<Field> = members.collect();
                match (self.is_wide, members.is_empty()) {
                    (false, false) => return Some(DataType::Struct(members.into())),
                    (true, _) => Untyped::Wide,
                    (false, true) => Untyped::Empty,
                }
            }
            Some(Kind::List) => Untyped::List,
            None => Untyped::Null,
        };
        untyped.insert(path.to_owned(), why);
        None
    }
}

impl Untyped {
    /// What is to be said of the column `name` where the job reads it. `lines`: how many were looked
    /// at; `columns_key`: where types are declared, such as `[event.columns]`.
    pub fn said(self, name: &str, lines: usize, columns_key: &str) -> String {
        let key = match name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            true => name.to_owned(),
            false => format!("{name:?}"),
        };
        match self {
            Untyped::Null => format!(
                "{name:?} is null in all of the {lines} records that were looked at; say its type: {columns_key} {key} = \"float64\" (or int64, utf8, boolean)"
            ),
            Untyped::List => format!("{name:?} is a list, and lists are not read"),
            Untyped::Empty => format!("{name:?} is an object without members that can be read"),
            Untyped::Wide => format!(
                "{name:?} is an object with more than {MEMBERS_MAX} different members; declare the one to read: {columns_key} \"{name}.MEMBER\" = \"float64\""
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(lines: &[&str], declared: &[(&str, JsonType)]) -> Learned {
        let sample = LineChunk::of_texts(lines, &Default::default());
        let declared = declared.iter().map(|(name, to)| ((*name).to_owned(), *to)).collect();
        let (time, keys) = (Some("t".to_owned()), ["k".to_owned()].into_iter().collect());
        infer(&sample, &ColumnUses { time, keys, declared, ..ColumnUses::default() })
    }

    fn type_of(learned: &Learned, name: &str) -> Option<DataType> {
        let field = learned.fields.iter().find(|field| field.name() == name)?;
        Some(field.data_type().clone())
    }

    fn members<const N: usize>(members: [(&str, DataType); N]) -> DataType {
        let field = |(name, to): (&str, DataType)| Field::new(name, to, true);
        DataType::Struct(members.map(field).to_vec().into())
    }

    const GOOD: &str = r#"{"t": 5, "x": 1.5, "s": "a", "more": [1]}"#;

    #[test]
    fn the_most_frequent_type_is_the_column_s() {
        let learned = learned(&[r#"{"t": 1, "x": "one"}"#, GOOD, GOOD], &[]);
        assert_eq!(type_of(&learned, "x"), Some(DataType::Float64));
    }

    #[test]
    fn columns_are_learned_and_declarations_win() {
        let lines = [GOOD, r#"{"t": 6, "x": 2, "k": 7, "b": true, "s": null, "n": null}"#];
        let learned = learned(&lines, &[("x", JsonType::Utf8)]);
        let of = |name: &str| type_of(&learned, name);
        assert_eq!((of("t"), of("k")), (Some(DataType::Int64), Some(DataType::Int64)));
        assert_eq!((of("x"), of("b")), (Some(DataType::Utf8), Some(DataType::Boolean)));
        assert_eq!((of("more"), of("n")), (None, None));
        assert_eq!(learned.untyped["more"], Untyped::List);
        assert_eq!(learned.untyped["n"], Untyped::Null);
    }

    #[test]
    fn lines_with_marks_and_words_of_python_are_looked_at() {
        let lines =
            ["\u{feff}{\"t\": 1, \"a\": 1}", r#"{"t": 2, "x": Infinity, "y": NaN, "z": true}"#];
        let learned = learned(&lines, &[]);
        let names: Vec<&str> = learned.fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["a", "t", "x", "z"]);
        assert_eq!(type_of(&learned, "x"), Some(DataType::Float64));
        assert_eq!(learned.untyped["y"], Untyped::Null);
    }

    #[test]
    fn objects_are_structures_and_paths_declare_their_members() {
        let lines = [
            r#"{"p": {"a": {"n": 1, "s": "x", "l": []}, "u": null}, "q.r": 1, "e": {}}"#,
            r#"{"p": {"a": {"n": null, "b": true}}, "z": null}"#,
        ];
        let a = [("n", DataType::Float64), ("s", DataType::Utf8), ("b", DataType::Boolean)];
        let found = learned(&lines, &[]);
        assert_eq!(type_of(&found, "p"), Some(members([("a", members(a))])));
        assert_eq!(found.untyped["p.a.l"], Untyped::List);
        assert_eq!(found.untyped["p.u"], Untyped::Null);
        assert_eq!(found.untyped["e"], Untyped::Empty);
        let declared = [
            ("p.a.n", JsonType::Int64),
            ("p.u", JsonType::Utf8),
            ("q.r", JsonType::Utf8),
            ("z.x.y", JsonType::Boolean),
            ("new.one", JsonType::Boolean),
        ];
        let found = learned(&lines, &declared);
        let a = [("n", DataType::Int64), ("s", DataType::Utf8), ("b", DataType::Boolean)];
        let p = members([("a", members(a)), ("u", DataType::Utf8)]);
        assert_eq!(type_of(&found, "p"), Some(p));
        assert_eq!(type_of(&found, "q.r"), Some(DataType::Utf8));
        let z = members([("x", members([("y", DataType::Boolean)]))]);
        assert_eq!(type_of(&found, "z"), Some(z));
        assert_eq!(type_of(&found, "new.one"), Some(DataType::Boolean));
        assert!(!found.untyped.contains_key("p.u"));
    }

    #[test]
    fn objects_are_read_so_deep_and_so_wide() {
        let deep = format!("{{\"d\": {}1{}}}", "{\"a\":".repeat(40), "}".repeat(40));
        let wide: Vec<String> = (0..2_000).map(|at| format!("\"m{at}\": 1")).collect();
        let wide = format!("{{\"w\": {{{}}}}}", wide.join(", "));
        let learned = learned(&[&deep, &wide], &[]);
        assert_eq!((type_of(&learned, "d"), type_of(&learned, "w")), (None, None));
        assert_eq!(learned.untyped["w"], Untyped::Wide);
    }

    #[test]
    fn what_is_declared_alone_may_be_a_column_or_a_member() {
        let declared =
            [("t", JsonType::Int64), ("a.b.c", JsonType::Utf8), ("a.d", JsonType::Int64)];
        let declared = declared.map(|(name, to)| (name.to_owned(), to)).into_iter().collect();
        let fields = declared_alone(&declared);
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["t", "a.b.c", "a.d", "a"]);
        let b = members([("c", DataType::Utf8)]);
        assert_eq!(*fields[3].data_type(), members([("b", b), ("d", DataType::Int64)]));
    }
}

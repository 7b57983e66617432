//! The names of the columns of a CSV file.

use std::collections::HashSet;

use super::record::Record;

/// The names of the columns, in order, and what is between fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub names: Vec<String>,
    pub delimiter: u8,
}

impl Header {
    /// # Errors
    /// If `record` is no header: not UTF-8, or with a name twice. What has no name is not read.
    pub fn new(record: &[u8], delimiter: u8) -> Result<Self, String> {
        if record.contains(&b'\r') && !record.contains(&b'"') {
            return Err("its lines end in carriage returns; end them in line feeds".to_owned());
        }
        let mut fields = Record::new(delimiter);
        fields.split(record).map_err(|why| format!("its header: {why}"))?;
        let names: Vec<String> = fields.iter().map(str::to_owned).collect();
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !name.is_empty() && !seen.insert(*name)) {
            return Err(format!("its header has {twice:?} twice; columns are told by their names"));
        }
        Ok(Header { names, delimiter })
    }
}

/// What is between the fields of a file of this name.
pub fn delimiter(name: &str) -> u8 {
    let name = name.to_lowercase();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    if plain.ends_with(".tsv") { b'\t' } else { b',' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_names_of_its_own() {
        let names = |text: &str| Header::new(text.as_bytes(), b',').map(|header| header.names);
        assert_eq!(names("t,\"a,\"\"b\",,c d,").unwrap(), ["t", "a,\"b", "", "c d", ""]);
        assert_eq!(
            names("t,x,x").unwrap_err(),
            "its header has \"x\" twice; columns are told by their names"
        );
        assert!(names("t,x\r1,2").unwrap_err().contains("carriage returns"));
        assert!(Header::new(b"t,\xff", b',').unwrap_err().contains("not UTF-8"));
        assert_eq!((delimiter("a/B.TSV.gz"), delimiter("a.csv")), (b'\t', b','));
    }
}

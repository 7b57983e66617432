//! A record of CSV to its fields, by csv-core.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::quotes::Quotes;

/// The fields of a record, one record after the other.
pub struct Record {
    delimiter: u8,
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    fields: usize,
}

impl Record {
    pub fn new(delimiter: u8) -> Self {
        let reader = ReaderBuilder::new().delimiter(delimiter).build();
        let mut record =
            Record { delimiter, reader, text: Vec::new(), ends: vec![0; 16], fields: 0 };
        // csv-core takes a byte order mark off what it is given first, and here no record is that.
        record.parse(b"");
        record
    }

    /// Takes the fields of `record`, which has no line end outside of quotes.
    ///
    /// # Errors
    /// If it is not UTF-8, has a quote that is not closed, or is several records.
    pub fn split(&mut self, record: &[u8]) -> Result<(), String> {
        std::str::from_utf8(record).map_err(|error| format!("not UTF-8: {error}"))?;
        let mut quotes = Quotes::new(self.delimiter);
        quotes.pass(record);
        if quotes.are_open() {
            return Err("a quote is not closed".to_owned());
        }
        let read = self.parse(record);
        match record[read..].iter().all(u8::is_ascii_whitespace) {
            true => Ok(()),
            false => Err("a carriage return outside of quotes".to_owned()),
        }
    }

    /// Takes the fields of the first record in `record`; returns how many bytes that has.
    fn parse(&mut self, record: &[u8]) -> usize {
        // No field is longer than what it is written as.
        self.text.resize(self.text.len().max(record.len() + 1), 0);
        let (mut written, mut fields, mut read) = (0, 0, 0);
        loop {
            // The end of its line is not a part of the record.
            let input = if read < record.len() { &record[read..] } else { b"\n" };
            let (result, more, wrote, ended) =
                self.reader.read_record(input, &mut self.text[written..], &mut self.ends[fields..]);
            read += more;
            written += wrote;
            fields += ended;
            match result {
                ReadRecordResult::Record | ReadRecordResult::End => break,
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::OutputFull => self.text.resize(2 * self.text.len(), 0),
                ReadRecordResult::InputEmpty if read > record.len() => break,
                ReadRecordResult::InputEmpty => {}
            }
        }
        self.fields = fields;
        read.min(record.len())
    }

    /// How many fields it has.
    pub fn width(&self) -> usize {
        self.fields
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let fields = begins.zip(&self.ends[..self.fields]);
        // Fields end at delimiters and quotes, which are ASCII.
        fields.map(|(begin, &end)| std::str::from_utf8(&self.text[begin..end]).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_rfc_4180() {
        let mut record = Record::new(b',');
        let many = vec!["é"; 300].join(",");
        for (text, fields) in [
            ("1,2", vec!["1", "2"]),
            ("\"a\r\nb\",\"c\"\"d\"", vec!["a\r\nb", "c\"d"]),
            (",\"\",", vec!["", "", ""]),
            ("a\"b, \"c", vec!["a\"b", " \"c"]),
            ("#1", vec!["#1"]),
            ("\u{feff}1", vec!["\u{feff}1"]),
            (&many, vec!["é"; 300]),
        ] {
            record.split(text.as_bytes()).unwrap();
            assert_eq!(record.iter().collect::<Vec<_>>(), fields, "{text}");
            assert_eq!(record.width(), fields.len());
        }
        assert!(record.split(b"a,\"b").unwrap_err().contains("not closed"));
        assert!(record.split(b"a\rb").unwrap_err().contains("carriage return"));
        assert!(record.split(b"\xff,1").unwrap_err().contains("not UTF-8"));
    }
}

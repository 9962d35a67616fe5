//! Map contents as rows that people and programs read: `skep-node inspect` prints them as a table or as JSON.
//!
//! Owns the decoding of every map's values and the table form. Reading the maps is the dataplane's part; all here are
//! pure functions. One module per subject.

mod affinity;
mod flows;
mod services;
mod stats;

pub use affinity::{AffinityRow, MapRow, affinity};
pub use flows::{FlowRow, flow};
pub use services::{BackendRow, ServiceRow, backends, services};
pub use stats::{
    AttachmentRow, ProgramRow, ReasonRow, ServiceTotalsRow, VerdictRow, class_name, reasons, service_totals,
    verdicts,
};

/// A row of a table: its JSON form is its serialisation.
pub trait Row: serde::Serialize {
    /// Column titles.
    const TITLES: &'static [&'static str];
    /// One cell per title.
    fn cells(&self) -> Vec<String>;
    /// Number of the service port that it is about, if it is about one.
    fn service(&self) -> Option<u32> {
        None
    }
}

/// `rows` as text in columns, with a title line.
pub fn table<R: Row>(rows: &[R]) -> String {
    let mut lines: Vec<Vec<String>> = vec![R::TITLES.iter().map(|title| (*title).to_owned()).collect()];
    lines.extend(rows.iter().map(Row::cells));
    let mut widths = vec![0; R::TITLES.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut out = String::new();
        for (width, cell) in widths.iter().zip(line) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width + 3 - cell.chars().count()));
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

/// `rows` as a JSON array, indented.
pub fn json<R: Row>(rows: &[R]) -> String {
    serde_json::to_string_pretty(rows).expect("rows are plain data with string keys")
}

/// A cell for something that may be missing.
fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// An address and port as people write them.
fn endpoint(address: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Pair(&'static str, u32);

    impl Row for Pair {
        const TITLES: &'static [&'static str] = &["NAME", "N"];
        fn cells(&self) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_string()]
        }
    }

    #[test]
    fn table_columns_line_up_without_trailing_space() {
        assert_eq!(table(&[Pair("a", 1), Pair("longer", 22)]), "NAME     N\na        1\nlonger   22\n");
        assert_eq!(table::<Pair>(&[]), "NAME   N\n");
    }
}

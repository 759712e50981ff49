//! One figure over time as a chart with its scale, for the line under the cursor of a `:monitor` screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget as _};

use crate::app::model::Model;
use crate::app::model::watch::Series;

use super::watch::with_unit;

/// Rows of the chart with its box on a terminal of so many rows; fewer leave no room for it beside the figures.
const ROWS: [(u16, u16); 2] = [(32, 14), (24, 8)];

/// Returns the rows that the shown screen gives to a chart.
pub fn rows(model: &Model) -> u16 {
    match model.view().screen {
        super::Screen::Series(_) => ROWS.iter().find(|(rows, _)| model.size.1 >= *rows).map_or(0, |(_, chart)| *chart),
        _ => 0,
    }
}

/// Returns a chart in so many columns and rows, as lines of text; a time in which nothing was seen has no line.
pub(super) fn lines(series: &Series, hours: i64, ascii: bool, (columns, rows): (u16, u16)) -> Vec<String> {
    let pieces = pieces(&series.values);
    let all = || pieces.iter().flatten().map(|point| point.1);
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    if !least.is_finite() || !most.is_finite() {
        return Vec::new();
    }
    // All the same is a line in the middle.
    let room = if most > least { 0.0 } else { 1.0 };
    let label = |value: i64| with_unit(value, &series.unit);
    let known = || series.values.iter().flatten().copied();
    let scale = [known().min().map(label).unwrap_or_default(), known().max().map(label).unwrap_or_default()];
    let marker = if ascii { Marker::Dot } else { Marker::Braille };
    let kind = if ascii { GraphType::Scatter } else { GraphType::Line };
    let sets = pieces.iter().map(|piece| Dataset::default().data(piece).marker(marker).graph_type(kind)).collect();
    let last = f64::from(u32::try_from(series.values.len().saturating_sub(1)).unwrap_or(u32::MAX));
    let chart = Chart::new(sets)
        .x_axis(Axis::default().bounds([0.0, last.max(1.0)]).labels([format!("-{hours}h"), "0".to_owned()]))
        .y_axis(Axis::default().bounds([least - room, most + room]).labels(scale));
    let area = Rect { x: 0, y: 0, width: columns, height: rows };
    let mut buffer = Buffer::empty(area);
    chart.render(area, &mut buffer);
    let cell = |x: u16, y: u16| plain(buffer[(x, y)].symbol(), ascii).to_owned();
    (0..rows).map(|y| (0..columns).map(|x| cell(x, y)).collect::<String>().trim_end().to_owned()).collect()
}

/// What an ASCII terminal draws instead.
fn plain(symbol: &str, ascii: bool) -> &str {
    match symbol {
        _ if !ascii => symbol,
        "•" => "*",
        "│" => "|",
        "─" => "-",
        "└" => "+",
        other => other,
    }
}

/// The points of each time without a gap: place and value.
fn pieces(values: &[Option<i64>]) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = vec![Vec::new()];
    for (place, value) in (0_u32..).zip(values) {
        match (value, pieces.last_mut()) {
            // A float is as good as the eye.
            (Some(value), Some(piece)) => piece.push((f64::from(place), *value as f64)),
            (None, Some(piece)) if !piece.is_empty() => pieces.push(Vec::new()),
            _ => {}
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_breaks_the_line_and_nothing_has_no_chart() {
        let values = [Some(1), Some(2), None, None, Some(3)];
        assert_eq!(pieces(&values), [vec![(0.0, 1.0), (1.0, 2.0)], vec![(4.0, 3.0)]]);
        let series = |values: &[Option<i64>]| Series { values: values.to_vec(), ..Series::default() };
        assert!(lines(&series(&[None, None]), 1, false, (40, 8)).is_empty());
        assert!(lines(&series(&[]), 1, false, (40, 8)).is_empty());
        let drawn = lines(&series(&[Some(0), Some(0), None, Some(10)]), 6, true, (40, 8));
        assert!(drawn.iter().all(|line| line.is_ascii()) && drawn.len() == 8, "{drawn:?}");
        let text = drawn.join("\n");
        assert!(text.contains("-6h") && text.contains("10") && text.matches('*').count() == 3, "{text}");
        lines(&series(&[Some(i64::MIN), Some(i64::MAX)]), 1, false, (3, 1));
    }
}

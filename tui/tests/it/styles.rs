//! What a text snapshot cannot tell: which style a cell has, and that it is never the only sign.

use hanse_tui::i18n::Lang;
use hanse_tui::theme::Role;
use ratatui::style::{Color, Modifier};

use crate::world::{Mood, World, text};

/// Returns (column, row) of the first place of an ASCII text in a buffer.
fn place(world: &World, needle: &str) -> (u16, u16) {
    let buffer = world.buffer();
    let screen = text(&buffer);
    let found = screen.lines().enumerate().find_map(|(y, line)| line.find(needle).map(|b| (b, y, line)));
    let (byte, y, line) = found.unwrap_or_else(|| panic!("no {needle:?} in\n{screen}"));
    (hanse_tui::format::width(&line[..byte]) as u16, y as u16)
}

#[test]
fn the_selected_row_is_reversed_over_its_whole_width_and_marked() {
    let mut world = World::with((120, 40), Lang::En, Mood::Normal, Some(":chains"));
    world.keys("Down");
    let (_, y) = place(&world, "trade/supply-1");
    let buffer = world.buffer();
    assert_eq!(buffer[(0, y)].symbol(), "▶");
    for x in 0..120 {
        assert!(buffer[(x, y)].modifier.contains(Modifier::REVERSED), "column {x}");
    }
    let (_, other) = place(&world, "trade/pay-4");
    assert!(!buffer[(5, other)].modifier.contains(Modifier::REVERSED));
}

#[test]
fn danger_is_red_and_has_its_word() {
    let mut world = World::with((120, 40), Lang::En, Mood::Normal, Some(":nodes"));
    world.keys("End");
    let (x, y) = place(&world, "BLOCKED");
    assert_eq!(world.buffer()[(x, y)].fg, Color::Red);
    world.model.settings.theme.color = false;
    assert_eq!(world.buffer()[(x, y)].fg, Color::Reset, "NO_COLOR");
    let danger = world.model.settings.theme.style(Role::Danger, false);
    assert!(danger.add_modifier.contains(Modifier::BOLD));
}

#[test]
fn stale_data_is_dim_and_write_hints_are_struck() {
    let mut world = World::with((120, 40), Lang::En, Mood::Normal, Some(":nodes"));
    let (x, y) = place(&world, "trade/supply-1/n2");
    assert!(!world.buffer()[(x, y)].modifier.contains(Modifier::DIM));
    world.mood = Mood::Lost;
    world.pass(3_000);
    assert!(world.buffer()[(x, y)].modifier.contains(Modifier::DIM));
    let (x, y) = place(&world, "restart...");
    assert!(world.buffer()[(x, y)].modifier.contains(Modifier::CROSSED_OUT));
}

//! What lies over a screen: dialogs, login and first run, the which-key popup.

use ratatui::layout::{Position, Rect};

use crate::app::input::Input;
use crate::app::model::Model;
use crate::app::model::data::{Failure, Query};
use crate::app::model::dialog::{AcceptKey, Choice, DEAF_MS, Dialog, Form, TypedConfirm, Vote};
use crate::app::model::edit::Edit;
use crate::app::model::plan::Planned;
use crate::format::{fit, short_hash, width, wrap};
use crate::i18n::{T, fill};
use crate::keymap::PREFIX;
use crate::screens::short;
use crate::theme::Role;
use crate::widgets::{Canvas, centered};

/// Widest dialog.
const WIDTH: u16 = 76;
/// Columns of labels.
const LABEL: usize = 16;

/// Writes lines into a box, one below the other.
struct Pen {
    area: Rect,
    y: u16,
}

impl Pen {
    fn line(&mut self, canvas: &mut Canvas<'_>, text: &str, role: Role) {
        if self.y < self.area.bottom() {
            canvas.text(self.area.x + 1, self.y, self.area.width - 2, text, role);
        }
        self.y += 1;
    }

    fn wrapped(&mut self, canvas: &mut Canvas<'_>, text: &str, role: Role) {
        for piece in wrap(text, usize::from(self.area.width) - 2) {
            self.line(canvas, &piece, role);
        }
    }

    /// Draws a labelled input; returns the place of its caret if it has the focus.
    fn input(&mut self, canvas: &mut Canvas<'_>, label: &str, input: &Input, focus: bool) -> Option<Position> {
        let label = format!("{} ", fit(label, LABEL, false));
        let x =
            canvas.text(self.area.x + 1, self.y, self.area.width, &label, if focus { Role::Strong } else { Role::Dim });
        let room = self.area.right().saturating_sub(x + 1);
        // A long text shows its end, where the caret mostly is.
        let before = width(&input.before_caret());
        let hidden = before.saturating_sub(usize::from(room) - 1);
        let shown: String = input.shown().chars().skip(hidden).collect();
        let style = canvas.theme.style(if focus { Role::Strong } else { Role::Text }, false);
        canvas.put(x, self.y, room, &fit(&shown, usize::from(room), false), style.underlined());
        let caret = Position { x: x + u16::try_from(before - hidden).unwrap_or(0), y: self.y };
        self.y += 1;
        focus.then_some(caret)
    }
}

/// Draws a dialog; returns the place of the caret if it has an input.
pub(super) fn dialog(model: &Model, canvas: &mut Canvas<'_>, body: Rect, dialog: &Dialog) -> Option<Position> {
    match dialog {
        Dialog::Confirm { title, target, plan, command, opened_at, .. } => {
            let foreseen = dialog.plan();
            let area = centered(body, WIDTH, if foreseen.is_some() { 18 } else { 12 });
            let inside = canvas.panel(area, model.t(*title), Role::Danger);
            let mut pen = Pen { area: inside, y: inside.y };
            pen.line(canvas, target, Role::Strong);
            pen.y += 1;
            pen.wrapped(canvas, model.t(*plan), Role::Text);
            if let Some(query) = &foreseen {
                let end = inside.bottom().saturating_sub(4);
                draw_plan(model, canvas, &mut pen, query, end);
            }
            pen.y += 1;
            pen.line(canvas, model.t(T::Command), Role::Dim);
            pen.line(canvas, &format!("  {command}"), Role::Dim);
            buttons(model, canvas, inside, *opened_at, true);
            None
        }
        Dialog::Typed(confirm) => draw_typed(model, canvas, body, confirm),
        Dialog::Vote(vote) => draw_vote(model, canvas, body, vote),
        Dialog::AcceptKey(accept) => draw_accept_key(model, canvas, body, accept),
        Dialog::Edit(edit) => draw_edit(model, canvas, body, edit),
        Dialog::Failure { failure, .. } => {
            draw_failure(model, canvas, body, failure);
            None
        }
    }
}

/// Draws what the server foresees, as far as there is room: why it would be refused, what a person should know, what happens.
fn draw_plan(model: &Model, canvas: &mut Canvas<'_>, pen: &mut Pen, query: &Query, end: u16) {
    let mut lines: Vec<(String, Role)> = Vec::new();
    match model.plan(query) {
        None => lines.push((model.t(T::PlanWait).to_owned(), Role::Working)),
        Some(Err(failure)) => lines.push((fill(model.t(T::PlanNone), &failure.message), Role::Dim)),
        Some(Ok(plan)) if !plan.refused.is_empty() => {
            lines.push((fill(model.t(T::PlanRefused), &plan.refused), Role::Danger));
        }
        Some(Ok(plan)) => {
            lines.extend(plan.risks.iter().map(|line| (format!("! {line}"), Role::Danger)));
            lines.extend(plan.words.iter().map(|line| (line.clone(), Role::Text)));
        }
    }
    let width = usize::from(pen.area.width) - 2;
    for (line, role) in lines {
        for piece in wrap(&line, width) {
            if pen.y < end {
                pen.line(canvas, &piece, role);
            }
        }
    }
}

/// Draws the buttons: cancel has the focus, confirming takes `y` and is dim while the dialog is still deaf.
fn buttons(model: &Model, canvas: &mut Canvas<'_>, inside: Rect, opened_at: i64, focus: bool) {
    let y = inside.bottom().saturating_sub(1);
    let deaf = model.now - opened_at < DEAF_MS;
    let role = if focus { Role::Selected } else { Role::Text };
    let x = canvas.text(inside.x + 2, y, inside.width, model.t(T::Cancel), role);
    let confirm = if deaf || !focus { Role::Disabled } else { Role::Danger };
    canvas.text(x + 4, y, inside.width, model.t(T::Confirm), confirm);
}

fn draw_vote(model: &Model, canvas: &mut Canvas<'_>, body: Rect, vote: &Vote) -> Option<Position> {
    let area = centered(body, WIDTH, 20);
    let title = fill(model.t(T::VoteTitle), &short(&vote.proposal));
    let inside = canvas.panel(area, &title, Role::Danger);
    let mut pen = Pen { area: inside, y: inside.y };
    pen.line(canvas, &vote.title, Role::Strong);
    pen.line(canvas, &format!("{} {}", fill(model.t(T::VoteAs), &vote.tenant), vote.weight), Role::Text);
    let hash = format!("{} sha256 {}", model.t(T::Hash), short_hash(&vote.artifact_hash));
    pen.line(canvas, &hash, Role::Dim);
    pen.y += 1;
    let mut x = inside.x + 1;
    let label = format!("{} ", fit(model.t(T::VoteChoice), LABEL, false));
    x = canvas.text(x, pen.y, inside.width, &label, if vote.focus == 0 { Role::Strong } else { Role::Dim });
    for choice in Choice::ALL {
        let text = match choice {
            Choice::Yes => T::Yes,
            Choice::No => T::No,
            Choice::Abstain => T::Abstain,
        };
        let chosen = vote.choice == Some(choice);
        let mark = if chosen { "(*)" } else { "( )" };
        let role = if chosen { Role::Selected } else { Role::Text };
        x = canvas.text(x, pen.y, inside.width, &format!("{mark} {}", model.t(text)), role) + 3;
    }
    pen.y += 1;
    let caret = pen.input(canvas, model.t(T::VoteKey), &vote.key_path, vote.focus == 1);
    pen.y += 1;
    pen.wrapped(canvas, model.t(T::VoteHelp), Role::Dim);
    if let Some(error) = vote.error {
        pen.wrapped(canvas, model.t(error), Role::Danger);
    }
    pen.y += 1;
    let planned = Query::Plan(Planned::Proposal(vote.proposal.clone()));
    draw_plan(model, canvas, &mut pen, &planned, inside.bottom().saturating_sub(1));
    buttons(model, canvas, inside, vote.opened_at, vote.focus == 2);
    caret
}

fn draw_accept_key(model: &Model, canvas: &mut Canvas<'_>, body: Rect, accept: &AcceptKey) -> Option<Position> {
    let area = centered(body, WIDTH, 14);
    let inside = canvas.panel(area, model.t(T::AcceptKeyTitle), Role::Danger);
    let mut pen = Pen { area: inside, y: inside.y };
    pen.line(canvas, &accept.host, Role::Strong);
    for (label, fingerprint, role) in
        [(T::KeyPinned, &accept.pinned, Role::Text), (T::KeySeen, &accept.seen, Role::Danger)]
    {
        pen.line(canvas, &format!("{} {fingerprint}", fit(model.t(label), LABEL, false)), role);
    }
    pen.y += 1;
    pen.wrapped(canvas, model.t(T::AcceptKeyPlan), Role::Text);
    let caret = pen.input(canvas, model.t(T::AcceptKeyTyped), &accept.typed, true);
    if let Some(error) = accept.error {
        pen.wrapped(canvas, model.t(error), Role::Danger);
    }
    typed_buttons(model, canvas, inside, accept.opened_at, accept.is_typed());
    caret
}

fn draw_edit(model: &Model, canvas: &mut Canvas<'_>, body: Rect, edit: &Edit) -> Option<Position> {
    let area = centered(body, WIDTH, u16::try_from(edit.fields.len()).unwrap_or(0) + 12);
    let (title, help) = edit.kind.words();
    let inside = canvas.panel(area, model.t(title), Role::Danger);
    // The buttons stand in the last row.
    let mut pen = Pen { area: Rect { height: inside.height.saturating_sub(1), ..inside }, y: inside.y };
    // What is not there yet has no name but the one in its field.
    if !edit.target.is_empty() {
        pen.line(canvas, &edit.target, Role::Strong);
        pen.y += 1;
    }
    let mut caret = None;
    for (at, (label, input)) in edit.fields.iter().enumerate() {
        caret = pen.input(canvas, model.t(*label), input, at == edit.focus).or(caret);
    }
    pen.y += 1;
    let is_buttons = edit.focus == edit.fields.len();
    match (edit.error, edit.command().filter(|_| is_buttons)) {
        (Some(error), _) => pen.wrapped(canvas, model.t(error), Role::Danger),
        (None, Some(command)) => {
            pen.line(canvas, model.t(T::Command), Role::Dim);
            pen.wrapped(canvas, &command, Role::Dim);
        }
        (None, None) => pen.wrapped(canvas, model.t(help), Role::Dim),
    }
    buttons(model, canvas, inside, edit.opened_at, is_buttons);
    caret
}

fn draw_typed(model: &Model, canvas: &mut Canvas<'_>, body: Rect, confirm: &TypedConfirm) -> Option<Position> {
    let area = centered(body, WIDTH, 14);
    let inside = canvas.panel(area, model.t(confirm.title), Role::Danger);
    let mut pen = Pen { area: inside, y: inside.y };
    pen.line(canvas, &confirm.target, Role::Strong);
    pen.y += 1;
    pen.wrapped(canvas, model.t(confirm.plan), Role::Text);
    pen.y += 1;
    pen.line(canvas, model.t(T::Command), Role::Dim);
    pen.line(canvas, &format!("  {}", confirm.command), Role::Dim);
    pen.y += 1;
    let caret = pen.input(canvas, model.t(T::TypeWord), &confirm.typed, true);
    if confirm.wrong {
        pen.wrapped(canvas, &fill(model.t(T::TypeWordWrong), &confirm.target), Role::Danger);
    }
    typed_buttons(model, canvas, inside, confirm.opened_at, confirm.is_typed());
    caret
}

/// Draws the buttons under a word to type: confirming takes Enter, and is dim until the word is there.
fn typed_buttons(model: &Model, canvas: &mut Canvas<'_>, inside: Rect, opened_at: i64, typed: bool) {
    let y = inside.bottom().saturating_sub(1);
    let x = canvas.text(inside.x + 2, y, inside.width, model.t(T::Cancel), Role::Text);
    let deaf = model.now - opened_at < DEAF_MS;
    let confirm = if deaf || !typed { Role::Disabled } else { Role::Danger };
    canvas.text(x + 4, y, inside.width, model.t(T::ConfirmEnter), confirm);
}

fn draw_failure(model: &Model, canvas: &mut Canvas<'_>, body: Rect, failure: &Failure) {
    let inside = canvas.panel(centered(body, WIDTH, 14), model.t(T::FailureTitle), Role::Danger);
    let mut pen = Pen { area: inside, y: inside.y };
    pen.wrapped(canvas, &failure.message, Role::Strong);
    pen.y += 1;
    let parts = [
        (T::Why, failure.reason.as_str()),
        (T::Field, &*failure.field),
        (T::Next, &*failure.advice),
        (T::RequestId, &*failure.request_id),
    ];
    for (label, text) in parts.iter().filter(|(_, text)| !text.is_empty()) {
        let room = usize::from(inside.width).saturating_sub(LABEL + 2);
        for (i, piece) in wrap(text, room).into_iter().enumerate() {
            let label = if i == 0 { model.t(*label) } else { "" };
            pen.line(canvas, &format!("{}{piece}", fit(label, LABEL, false)), Role::Text);
        }
    }
    canvas.text(inside.x + 2, inside.bottom() - 1, inside.width, model.t(T::CloseHint), Role::Selected);
}

/// Draws login or first run; returns the place of the caret.
pub(super) fn form(model: &Model, canvas: &mut Canvas<'_>, body: Rect, form: &Form) -> Option<Position> {
    let fields = u16::try_from(form.fields.len()).unwrap_or(0);
    let area = centered(body, WIDTH, fields + 10);
    let (title, hint) = if form.setup { (T::SetupTitle, T::SetupHint) } else { (T::LoginTitle, T::LoginHint) };
    let inside = canvas.panel(area, model.t(title), Role::Strong);
    let mut pen = Pen { area: inside, y: inside.y };
    let status = model.status().map(|s| format!("{}  {}", s.cluster, s.cluster_id)).unwrap_or_default();
    pen.line(canvas, &status, Role::Dim);
    pen.y += 1;
    let mut caret = None;
    for (i, (label, input)) in form.fields.iter().enumerate() {
        caret = pen.input(canvas, model.t(*label), input, i == form.focus && !form.busy).or(caret);
    }
    pen.y += 1;
    match &form.error {
        _ if form.busy => pen.line(canvas, model.t(T::Working), Role::Working),
        Some(error) => pen.wrapped(canvas, error, Role::Danger),
        None => {}
    }
    pen.y = inside.bottom().saturating_sub(2);
    pen.wrapped(canvas, model.t(hint), Role::Dim);
    caret
}

/// Draws where `g` can go.
pub(super) fn which_key(model: &Model, canvas: &mut Canvas<'_>, body: Rect) {
    let columns = 3;
    let rows = u16::try_from(PREFIX.len().div_ceil(columns)).unwrap_or(0);
    let height = (rows + 2).min(body.height);
    let area = Rect { y: body.bottom() - height, height, ..body };
    let inside = canvas.panel(area, model.t(T::GoTo), Role::Strong);
    let width = inside.width / 3;
    for (i, (key, _, text)) in (0..).zip(PREFIX) {
        let (x, y) = (inside.x + 1 + (i / rows) * width, inside.y + i % rows);
        let next = canvas.text(x, y, width, &format!("g {key}  "), Role::Strong);
        canvas.text(next, y, width.saturating_sub(6), model.t(*text), Role::Text);
    }
}

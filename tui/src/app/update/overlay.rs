//! Keys of what lies over a screen: the prompt line, dialogs, login and first run.

use crate::app::effect::{Effect, Write};
use crate::app::input::Input;
use crate::app::model::Model;
use crate::app::model::dialog::{AcceptKey, Choice, DEAF_MS, Dialog, Form, PromptKind, TypedConfirm, Vote};
use crate::app::model::edit::Edit;
use crate::i18n::{T, fill};
use crate::keymap::{Code, Key};
use crate::screens::Screen;
use crate::screens::command::{Command, complete, parse};

use super::{go, say};

/// Moves within an input or types into it; returns whether the key was for it.
fn edit(input: &mut Input, key: Key) -> bool {
    match key.code {
        Code::Char('u') if key.ctrl => input.clear(),
        Code::Char('a') if key.ctrl => input.jump(false),
        Code::Char('e') if key.ctrl => input.jump(true),
        Code::Char(c) if !key.ctrl && !key.alt => input.put(c),
        Code::Backspace => input.back(),
        Code::Delete => input.delete(),
        Code::Left => input.step(false),
        Code::Right => input.step(true),
        Code::Home => input.jump(false),
        Code::End => input.jump(true),
        _ => return false,
    }
    true
}

/// Puts pasted text into the input that has the focus; elsewhere it is dropped, because it is not keys.
pub(super) fn paste(model: &mut Model, text: &str) {
    let deaf = model.dialog.as_ref().is_some_and(|d| model.now - d.opened_at() < DEAF_MS);
    let input = match (&mut model.form, &mut model.dialog, &mut model.prompt) {
        (Some(form), ..) => form.fields.get_mut(form.focus).map(|(_, input)| input),
        (None, Some(Dialog::Vote(vote)), _) if vote.focus == 1 && !deaf => Some(&mut vote.key_path),
        (None, Some(Dialog::Edit(edit)), _) if !deaf => edit.fields.get_mut(edit.focus).map(|(_, input)| input),
        (None, None, Some(prompt)) => Some(&mut prompt.input),
        _ => None,
    };
    if let Some(input) = input {
        text.chars().for_each(|c| input.put(c));
    }
}

pub(super) fn prompt_key(model: &mut Model, key: Key) -> Vec<Effect> {
    let Some(mut prompt) = model.prompt.take() else { return Vec::new() };
    match key.code {
        Code::Esc => {
            if prompt.kind == PromptKind::Filter {
                model.view_mut().filter.clear();
            }
            return Vec::new();
        }
        Code::Enter => return prompt_entered(model, prompt.kind, &prompt.input.text()),
        Code::Backspace if prompt.input.is_empty() => return Vec::new(),
        Code::Tab if prompt.kind == PromptKind::Command => {
            let candidates = complete(model, &prompt.input.text());
            if let Some(common) = common_start(&candidates) {
                let space = if candidates.len() == 1 && !common.contains(' ') { " " } else { "" };
                prompt.input = Input::of(&format!("{common}{space}"));
            }
        }
        _ => {
            // A filter may hold Chinese punctuation; names and hashes never do.
            let key = if prompt.kind == PromptKind::Filter { key } else { key.half_width() };
            edit(&mut prompt.input, key);
        }
    }
    if prompt.kind == PromptKind::Filter {
        let view = model.view_mut();
        (view.filter, view.offset) = (prompt.input.text(), 0);
    }
    model.prompt = Some(prompt);
    Vec::new()
}

/// Returns the longest start that all candidates share, none if there are no candidates.
fn common_start(candidates: &[String]) -> Option<String> {
    let mut common = candidates.first()?.clone();
    for other in candidates {
        while !other.starts_with(&common) {
            common.pop();
        }
    }
    Some(common)
}

fn prompt_entered(model: &mut Model, kind: PromptKind, text: &str) -> Vec<Effect> {
    let text = text.trim();
    match kind {
        PromptKind::Filter => Vec::new(),
        _ if text.is_empty() => Vec::new(),
        PromptKind::Command => run_command(model, text),
        PromptKind::Search => match model.view().screen.chain().map(str::to_owned) {
            Some(chain) => go(model, Screen::Found(chain, text.to_owned()), String::new()),
            None => Vec::new(),
        },
    }
}

/// Does what a command line means.
pub(super) fn run_command(model: &mut Model, line: &str) -> Vec<Effect> {
    match parse(model, line) {
        Command::Go(screen, filter) => go(model, screen, filter),
        Command::Quit => vec![Effect::Quit],
        Command::Wrong(why) => {
            say(model, model.t(why).to_owned());
            Vec::new()
        }
    }
}

pub(super) fn dialog_key(model: &mut Model, key: Key) -> Vec<Effect> {
    let Some(dialog) = model.dialog.take() else { return Vec::new() };
    // Keys typed before the dialog could be read are not an answer to it.
    if model.now - dialog.opened_at() < DEAF_MS {
        model.dialog = Some(dialog);
        return Vec::new();
    }
    match dialog {
        Dialog::Failure { .. } if matches!(key.code, Code::Esc | Code::Enter) => Vec::new(),
        Dialog::Confirm { ref write, .. } => match key.half_width().code {
            Code::Char('y') => {
                let write = write.clone();
                confirmed(model, write)
            }
            Code::Esc | Code::Enter | Code::Char('n') => Vec::new(),
            _ => {
                model.dialog = Some(dialog);
                Vec::new()
            }
        },
        Dialog::Typed(confirm) => typed_key(model, confirm, key),
        Dialog::Vote(vote) => vote_key(model, vote, key),
        Dialog::AcceptKey(accept) => accept_key(model, accept, key),
        Dialog::Edit(dialog) => edit_key(model, dialog, key),
        Dialog::Failure { .. } => {
            model.dialog = Some(dialog);
            Vec::new()
        }
    }
}

/// Sends a confirmed change, unless the leader was lost while the dialog was open.
fn confirmed(model: &mut Model, write: Write) -> Vec<Effect> {
    if let Some(block) = model.write_block() {
        say(model, model.t(block).to_owned());
        return Vec::new();
    }
    model.writing = true;
    say(model, model.t(T::Working).to_owned());
    vec![Effect::Write(write)]
}

fn typed_key(model: &mut Model, mut confirm: TypedConfirm, key: Key) -> Vec<Effect> {
    match key.code {
        Code::Esc => return Vec::new(),
        Code::Enter if confirm.is_typed() => return confirmed(model, confirm.write),
        Code::Enter => confirm.wrong = true,
        _ => {
            confirm.wrong = false;
            edit(&mut confirm.typed, key.half_width());
        }
    }
    model.dialog = Some(Dialog::Typed(confirm));
    Vec::new()
}

fn accept_key(model: &mut Model, mut accept: AcceptKey, key: Key) -> Vec<Effect> {
    match key.code {
        Code::Esc => return Vec::new(),
        Code::Enter if accept.is_typed() => {
            return confirmed(model, Write::AcceptHostKey { host: accept.host, fingerprint: accept.seen });
        }
        Code::Enter => accept.error = Some(T::AcceptKeyWrong),
        _ => {
            accept.error = None;
            edit(&mut accept.typed, key.half_width());
        }
    }
    model.dialog = Some(Dialog::AcceptKey(accept));
    Vec::new()
}

fn vote_key(model: &mut Model, mut vote: Vote, key: Key) -> Vec<Effect> {
    vote.error = None;
    match (key.code, vote.focus) {
        (Code::Esc, _) => return Vec::new(),
        (Code::Tab | Code::Down, _) => vote.focus = (vote.focus + 1) % Vote::STOPS,
        (Code::BackTab | Code::Up, _) => vote.focus = (vote.focus + Vote::STOPS - 1) % Vote::STOPS,
        // Enter goes on, and on the buttons it is "cancel": the ballot leaves with `y` alone.
        (Code::Enter, 0 | 1) => vote.focus += 1,
        (Code::Enter, _) => return Vec::new(),
        (_, 0) => choose(&mut vote, key.half_width().code),
        (_, 1) => {
            edit(&mut vote.key_path, key);
        }
        (_, _) if key.half_width().code == Code::Char('y') => match ballot(model, &vote) {
            Ok(write) => return confirmed(model, write),
            Err(missing) => vote.error = Some(missing),
        },
        _ => {}
    }
    model.dialog = Some(Dialog::Vote(vote));
    Vec::new()
}

fn edit_key(model: &mut Model, mut dialog: Edit, key: Key) -> Vec<Effect> {
    let stops = dialog.fields.len() + 1;
    let is_buttons = dialog.focus + 1 == stops;
    dialog.error = None;
    match key.code {
        Code::Esc => return Vec::new(),
        Code::Tab | Code::Down => dialog.focus = (dialog.focus + 1) % stops,
        Code::BackTab | Code::Up => dialog.focus = (dialog.focus + stops - 1) % stops,
        // Enter goes on, and on the buttons it is "cancel": the change leaves with `y` alone.
        Code::Enter if is_buttons => return Vec::new(),
        Code::Enter => dialog.focus += 1,
        _ if is_buttons && key.half_width().code == Code::Char('y') => match dialog.write() {
            Ok(write) => return confirmed(model, write),
            Err(wrong) => dialog.error = Some(wrong),
        },
        _ => {
            if let Some((label, input)) = dialog.fields.get_mut(dialog.focus) {
                // Only a reason may be in Chinese.
                edit(input, if *label == T::ColReason { key } else { key.half_width() });
            }
        }
    }
    model.dialog = Some(Dialog::Edit(dialog));
    Vec::new()
}

fn choose(vote: &mut Vote, code: Code) {
    let at = vote.choice.and_then(|c| Choice::ALL.iter().position(|x| *x == c));
    let last = Choice::ALL.len() - 1;
    let next = match code {
        Code::Right => Some(at.map_or(0, |i| (i + 1).min(last))),
        Code::Left => Some(at.map_or(0, |i| i.saturating_sub(1))),
        Code::Char(c @ '1'..='3') => Some(c as usize - '1' as usize),
        _ => None,
    };
    if let Some(i) = next {
        vote.choice = Some(Choice::ALL[i]);
    }
}

fn ballot(model: &Model, vote: &Vote) -> Result<Write, T> {
    let choice = vote.choice.ok_or(T::VoteNoChoice)?;
    let key_path = vote.key_path.text();
    if key_path.trim().is_empty() {
        return Err(T::VoteNoKey);
    }
    Ok(Write::CastBallot {
        proposal: vote.proposal.clone(),
        choice,
        artifact: vote.artifact.clone(),
        tenant: vote.tenant.clone(),
        cluster_id: model.status().map(|s| s.cluster_id.clone()).unwrap_or_default(),
        key_path: key_path.trim().to_owned(),
    })
}

pub(super) fn form_key(model: &mut Model, key: Key) -> Vec<Effect> {
    let Some(mut form) = model.form.take() else { return Vec::new() };
    let mut effects = Vec::new();
    let last = form.fields.len() - 1;
    match key.code {
        _ if form.busy => {}
        Code::Tab | Code::Down => form.focus = if form.focus == last { 0 } else { form.focus + 1 },
        Code::BackTab | Code::Up => form.focus = if form.focus == 0 { last } else { form.focus - 1 },
        Code::Enter if form.focus < last => form.focus += 1,
        Code::Enter => effects = submit(model, &mut form),
        _ => {
            let (label, input) = &mut form.fields[form.focus];
            let id = matches!(label, T::Account | T::SetupCode);
            edit(input, if id { key.half_width() } else { key });
        }
    }
    model.form = Some(form);
    effects
}

fn submit(model: &mut Model, form: &mut Form) -> Vec<Effect> {
    if let Some(i) = form.fields.iter().position(|(_, input)| input.is_empty()) {
        form.error = Some(fill(model.t(T::FieldMissing), model.t(form.fields[i].0)));
        form.focus = i;
        return Vec::new();
    }
    if form.setup && form.text(T::Password) != form.text(T::PasswordAgain) {
        form.error = Some(model.t(T::PasswordsDiffer).to_owned());
        return Vec::new();
    }
    (form.busy, form.error) = (true, None);
    let (account, password) = (form.text(T::Account).trim().to_owned(), form.text(T::Password));
    vec![Effect::Write(if form.setup {
        Write::Bootstrap { code: form.text(T::SetupCode).trim().to_owned(), account, password }
    } else {
        Write::Login { account, password }
    })]
}

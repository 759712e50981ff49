//! The real terminal: raw mode, the alternate screen, frames in one write, keys into the console's words.

use std::io::{self, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use termina::Event;
use termina::event::{KeyCode, KeyEvent, KeyEventKind, Modifiers};

use crate::app::model::Model;
use crate::app::msg::Msg;
use crate::app::view::view;
use crate::keymap::{Code, Key};

/// Bytes kept ready for a frame; a first frame of 200x50 in Chinese has 11 kB.
const FRAME_BYTES: usize = 32 << 10;

/// The terminal is ours: a panic has to give it back.
static HELD: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// Gathers a frame, so that it reaches the terminal in one write.
struct FrameWriter {
    bytes: Vec<u8>,
    out: Stdout,
}

impl Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    // The library flushes inside a frame; only `commit` sends.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FrameWriter {
    fn commit(&mut self) -> io::Result<()> {
        self.out.write_all(&self.bytes)?;
        self.bytes.clear();
        self.out.flush()
    }
}

/// The terminal while the console has it; dropping gives it back.
pub(super) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<SharedWriter>>,
    writer: SharedWriter,
}

/// The frame writer, shared between the library's backend and `commit`.
#[derive(Clone)]
pub(super) struct SharedWriter(Arc<Mutex<FrameWriter>>);

impl SharedWriter {
    fn lock(&self) -> MutexGuard<'_, FrameWriter> {
        // What lies in a poisoned writer is at worst a torn frame; the next one draws over it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for SharedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().flush()
    }
}

impl Terminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Standard output is no terminal, or it does not obey; it is given back as it was.
    pub(super) fn take() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                release();
                before(info);
            }));
        });
        HELD.store(true, Ordering::SeqCst);
        let taken = Self::set_up();
        if taken.is_err() {
            release();
        }
        taken
    }

    fn set_up() -> io::Result<Self> {
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
        let frame = FrameWriter { bytes: Vec::with_capacity(FRAME_BYTES), out: io::stdout() };
        let writer = SharedWriter(Arc::new(Mutex::new(frame)));
        let inner = ratatui::Terminal::new(CrosstermBackend::new(writer.clone()))?;
        Ok(Self { inner, writer })
    }

    /// Returns columns and rows.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        self.inner.size().map(|s| (s.width, s.height))
    }

    /// Draws the model in one write within a synchronized update, so that no half frame is seen.
    pub(super) fn draw(&mut self, model: &Model) -> io::Result<()> {
        queue!(self.writer, BeginSynchronizedUpdate)?;
        self.inner.draw(|frame| view(model, frame))?;
        queue!(self.writer, EndSynchronizedUpdate)?;
        self.writer.lock().commit()
    }

    /// Forgets what is on the screen, so that the next frame draws all of it. (Not `clear`, which would ask the
    /// terminal for its cursor and compete with the reader of keys for the answer.)
    pub(super) fn forget(&mut self) -> io::Result<()> {
        let (width, height) = self.size()?;
        self.inner.resize(Rect { x: 0, y: 0, width, height })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        release();
    }
}

/// Gives the terminal back, once.
fn release() {
    if HELD.swap(false, Ordering::SeqCst) {
        // Nothing can be done about a terminal that has gone away.
        let _ =
            execute!(io::stdout(), EndSynchronizedUpdate, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// Returns what a terminal event means to the console, none if nothing.
pub(super) fn msg(event: Event) -> Option<Msg> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => self::key(key).map(Msg::Key),
        Event::Paste(text) => Some(Msg::Paste(text)),
        // Sizes come by signal; answers of the terminal were not asked for.
        Event::Key(_)
        | Event::WindowResized(_)
        | Event::FocusIn
        | Event::FocusOut
        | Event::Mouse(_)
        | Event::Csi(_)
        | Event::Osc(_)
        | Event::Dcs(_) => None,
    }
}

fn key(event: KeyEvent) -> Option<Key> {
    let ctrl = event.modifiers.contains(Modifiers::CONTROL);
    let code = match event.code {
        KeyCode::Char(c) if ctrl => Code::Char(c.to_ascii_lowercase()),
        KeyCode::Char(c) => Code::Char(c),
        KeyCode::Enter => Code::Enter,
        KeyCode::Escape => Code::Esc,
        KeyCode::Tab => Code::Tab,
        KeyCode::BackTab => Code::BackTab,
        KeyCode::Backspace => Code::Backspace,
        KeyCode::Delete => Code::Delete,
        KeyCode::Up => Code::Up,
        KeyCode::Down => Code::Down,
        KeyCode::Left => Code::Left,
        KeyCode::Right => Code::Right,
        KeyCode::PageUp => Code::PageUp,
        KeyCode::PageDown => Code::PageDown,
        KeyCode::Home => Code::Home,
        KeyCode::End => Code::End,
        KeyCode::Function(n) => Code::F(n),
        _ => return None,
    };
    Some(Key { code, ctrl, alt: event.modifiers.contains(Modifiers::ALT) })
}

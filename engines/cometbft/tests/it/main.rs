//! The driver against four real validators of a program that no one here wrote, `injectived` (`cargo xtask parts`
//! installs it from PyPI; it is no part of the product), and what it makes of wrong contributions.
#![allow(clippy::unwrap_used)]

mod chain;
mod genesis;
mod life;
mod net;
mod parts;

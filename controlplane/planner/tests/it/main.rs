//! Tests of the plans: whole lives played against a simulated world, with a new leader at every step.
#![allow(clippy::unwrap_used)]

#[path = "../../../state/tests/it/world.rs"]
mod world;

mod adopting;
mod change;
mod diagnose;
mod hang;
mod height;
mod height_course;
mod life;
mod machine;
mod moving;
mod outfit;
mod repair;
mod replica;
mod rollout;
mod seat;
mod watched;

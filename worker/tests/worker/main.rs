//! Whole jobs on a worker, from SQL text to printed rows, with a scripted coordinator.

#![allow(clippy::unwrap_used)]

mod console;
mod coordinator;
mod jobs;

mod a_job_gives_the_same_rows_at_every_parallelism;
mod a_killed_job_goes_on_from_its_checkpoint_at_another_parallelism;
mod a_reset_rolls_surviving_tasks_back;
mod an_aborted_epoch_loses_nothing;

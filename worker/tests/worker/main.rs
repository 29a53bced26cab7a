//! Whole jobs on a worker, from SQL text to printed rows, with a scripted coordinator.

#![allow(clippy::unwrap_used)]

mod console;
mod coordinator;
mod jobs;

mod a_connection_that_is_cut_fails_the_attempt_and_the_next_one_goes_on;
mod a_job_gives_the_same_rows_at_every_parallelism;
mod a_killed_job_goes_on_from_its_checkpoint_at_another_parallelism;
mod a_reset_rolls_surviving_tasks_back;
mod a_silent_broker_holds_up_nothing_but_its_answer;
mod a_store_that_is_away_fails_the_epoch_and_not_the_task;
mod a_switch_goes_on_with_what_was_read_before_it;
mod a_task_that_ended_is_not_run_again;
mod a_worker_attaches_to_its_coordinators;
mod an_aborted_epoch_loses_nothing;
mod workers_give_the_same_rows_as_one;

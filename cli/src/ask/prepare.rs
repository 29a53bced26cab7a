//! `millstream prepare`: what would become of a running job under another manifest.
//!
//! Owns: which texts are sent, what people read of the answer, the exit code. Does not own: the check (the coordinator's).

use indicatif::BinaryBytes;
use millstream_api::proto::operations::v1::{Fate, PrepareResponse, StateFate};

use super::{at_the_ruling_one, refuse, run};
use crate::args::{PrepareArguments, StatusFormat};
use crate::exit::Exit;
use crate::{job_file, tls};

/// Asks, and prints the answer.
pub fn prepare(arguments: &PrepareArguments) -> Exit {
    let (path, asked) = (&arguments.job.manifest, &arguments.asked);
    let texts = match job_file::read_texts(path) {
        Ok(texts) => texts,
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("error: {error}"));
            return Exit::InvalidJob;
        }
    };
    let security = match tls::security(&asked.tls) {
        Ok(security) => security,
        Err((exit, message)) => return refuse(exit, &message),
    };
    run(async {
        let sql = texts.sql.as_ref().map(|(_, text)| text.as_str());
        let ask = async |client: &mut super::Client| client.prepare(&texts.manifest, sql).await;
        let mut answer = at_the_ruling_one(&asked.coordinator, &security, ask).await?;
        for problem in &mut answer.problems {
            problem.message = texts.called_here(path, &problem.message);
        }
        match arguments.output {
            StatusFormat::Table => show(&answer),
            StatusFormat::Json => println!("{}", serde_json::to_string(&answer).expect("numbers and texts")),
        }
        Ok(exit_of(&answer))
    })
}

/// As `validate` for what does not compile; as a start that refuses the stored state for what does not fit it.
fn exit_of(answer: &PrepareResponse) -> Exit {
    match (answer.accepted, answer.epoch) {
        (true, _) => Exit::Success,
        (false, None) => Exit::InvalidJob,
        (false, Some(_)) => Exit::State,
    }
}

fn show(answer: &PrepareResponse) {
    for state in &answer.states {
        println!("{}", state_line(state));
    }
    let cut = (answer.states_total as usize).saturating_sub(answer.states.len());
    if cut > 0 {
        println!("and {cut} more");
    }
    for problem in &answer.problems {
        eprintln!("error: {}", problem.message);
    }
    if !answer.accepted {
        return;
    }
    let graph = if answer.same_graph { "the same graph" } else { "another graph" };
    match answer.epoch {
        Some(epoch) => println!("accepted: {graph}, going on from checkpoint {epoch}"),
        None => println!("accepted: there is no checkpoint yet"),
    }
}

/// `kept     by_user/GlobalGroupAggregate/0  1.6 MiB`.
fn state_line(state: &StateFate) -> String {
    let fate = match state.fate() {
        Fate::Kept => "kept",
        Fate::Dropped => "dropped",
        Fate::Refused => "refused",
        Fate::New => "new",
        Fate::Unspecified => "?",
    };
    let bytes = if state.bytes > 0 { format!("  {}", BinaryBytes(state.bytes)) } else { String::new() };
    let reason = if state.reason.is_empty() { String::new() } else { format!("  {}", state.reason) };
    format!("{fate:<8} {}{bytes}{reason}", state.uid)
}

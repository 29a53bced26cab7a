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
            StatusFormat::Json => print_json(&answer),
        }
        Ok(exit_of(&answer))
    })
}

/// As `validate` for what does not compile; as a start that refuses the stored state for what does not fit it.
pub fn exit_of(answer: &PrepareResponse) -> Exit {
    match (answer.accepted, answer.epoch) {
        (true, _) => Exit::Success,
        (false, None) => Exit::InvalidJob,
        (false, Some(_)) => Exit::State,
    }
}

/// The answer where nothing is stored that the job could go on from.
pub fn nothing_stored() -> PrepareResponse {
    PrepareResponse { accepted: true, ..PrepareResponse::default() }
}

pub fn print_json(answer: &PrepareResponse) {
    println!("{}", serde_json::to_string(answer).expect("numbers and texts"));
}

/// A line per state, then what is wrong, then the verdict.
pub fn show(answer: &PrepareResponse) {
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
    let graph = match (answer.same_graph, answer.stored_graph) {
        (false, _) => "another graph",
        (true, false) => "the same graph",
        (true, true) => "the checkpoint's graph, though this version compiles the SQL to another one",
    };
    match answer.epoch {
        Some(epoch) => println!("accepted: {graph}, going on from checkpoint {epoch}"),
        None => println!("accepted: there is no checkpoint yet"),
    }
}

/// `kept     by_user/aggregate/0  5000 rows, 1.6 MiB`.
fn state_line(state: &StateFate) -> String {
    let fate = match state.fate() {
        Fate::Kept => "kept",
        Fate::Migrated => "migrated",
        Fate::Dropped => "dropped",
        Fate::Refused => "refused",
        Fate::New => "new",
        Fate::Unspecified => "?",
    };
    let size = match (state.rows, state.bytes) {
        (0, 0) => String::new(),
        (splits, 0) => format!("  {splits} splits"),
        (rows, bytes) => format!("  {rows} rows, {}", BinaryBytes(bytes)),
    };
    let reason = if state.reason.is_empty() { String::new() } else { format!("  {}", state.reason) };
    format!("{fate:<8} {}{size}{reason}", state.uid)
}

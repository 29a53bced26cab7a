//! `millstream explain` and `millstream validate`.

use millstream_sql::explain as render;

use crate::against;
use crate::args::{ExplainArguments, ExplainFormat, JobArguments};
use crate::exit::Exit;
use crate::job_file::{self, JobFile};

/// Prints the graph on standard output.
pub fn explain(arguments: &ExplainArguments) -> Exit {
    match load(&arguments.job) {
        Err(exit) => exit,
        Ok(file) => {
            if let Some(place) = &arguments.against {
                return against::explain(file, place, arguments.output);
            }
            let graph = &file.compiled.graph;
            let text = match arguments.output {
                ExplainFormat::Text => render::text(graph),
                ExplainFormat::Json => render::json(graph),
                ExplainFormat::Mermaid => render::mermaid(graph),
            };
            println!("{}", text.trim_end());
            Exit::Success
        }
    }
}

/// Says whether the job is well formed.
pub fn validate(arguments: &JobArguments) -> Exit {
    match load(arguments) {
        Err(exit) => exit,
        Ok(file) => {
            let graph = &file.compiled.graph;
            println!(
                "{} is valid: {} transforms in {} task chains",
                arguments.manifest.display(),
                graph.transforms.len(),
                graph.vertices().len()
            );
            Exit::Success
        }
    }
}

/// Loads the job, or prints why not.
pub fn load(arguments: &JobArguments) -> Result<JobFile, Exit> {
    job_file::load(&arguments.manifest).map_err(|errors| {
        for error in errors {
            eprintln!("error: {error}");
        }
        Exit::InvalidJob
    })
}

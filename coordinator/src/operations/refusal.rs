//! Why an operation is not done, as its client has to know it.

use millstream_api::log::Address;

/// An operation that is refused. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// One line for people: what, and what to do.
    pub message: String,
    /// Of `NotRuling`: where the ruling coordinator listens, `host:port`, if that is known.
    pub coordinator: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is wrong.
    Invalid,
    /// This coordinator has another job.
    OtherJob,
    /// Another coordinator rules the job.
    NotRuling,
    /// The id was used for another operation.
    IdUsed,
    /// A bound is reached: later.
    Busy,
    /// Something that is needed does not answer, or not yet: later, with the same id.
    Unavailable,
    /// Of Millstream.
    Defect,
}

impl RefusalKind {
    /// As it stands in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID",
            Self::OtherJob => "OTHER_JOB",
            Self::NotRuling => "NOT_RULING",
            Self::IdUsed => "ID_USED",
            Self::Busy => "BUSY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Defect => "DEFECT",
        }
    }
}

impl Refusal {
    fn new(kind: RefusalKind, message: String) -> Self {
        Self { kind, message, coordinator: None }
    }

    pub(super) fn invalid(message: String) -> Self {
        Self::new(RefusalKind::Invalid, message)
    }

    pub(super) fn other_job(message: String) -> Self {
        Self::new(RefusalKind::OtherJob, message)
    }

    pub(super) fn id_used(message: String) -> Self {
        Self::new(RefusalKind::IdUsed, message)
    }

    pub(super) fn busy(message: String) -> Self {
        Self::new(RefusalKind::Busy, message)
    }

    pub(super) fn unavailable(message: String) -> Self {
        Self::new(RefusalKind::Unavailable, message)
    }

    pub(super) fn defect(message: String) -> Self {
        Self::new(RefusalKind::Defect, message)
    }

    pub(super) fn not_ruling(ruler: Option<&Address>) -> Self {
        let who = ruler.map_or("another one does".to_owned(), |address| {
            let listens = address.listen.as_ref().map(|listen| format!(", listening on {listen}")).unwrap_or_default();
            format!("process {} on {} does{listens}", address.process_id, address.host)
        });
        let coordinator = ruler.and_then(|address| address.listen.clone());
        Self {
            coordinator,
            ..Self::new(RefusalKind::NotRuling, format!("this coordinator does not rule the job: {who}"))
        }
    }
}

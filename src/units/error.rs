//! The one error of the crate: where, what was found, what is wrong with it, and what to do.

use std::fmt;

use serde::Serialize;

/// Why a question has no answer: one sentence for people, fields for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// A stable word for programs to branch on.
    pub code: Code,
    /// The flag, JSON key or argument; empty while the reader of the value does not know it.
    pub field: String,
    /// The value found, as it was written; `None` where there is none to show.
    pub found: Option<String>,
    /// What is wrong, as the end of a sentence that starts with the value, or with the field where nothing was found.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Error {
    /// An error about a value that was found, its parts in the order they are read in.
    pub fn new(
        code: Code,
        field: impl Into<String>,
        found: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { found: Some(found.into()), ..Self::without_value(code, field, problem, remedy) }
    }

    /// An error where there is no value to show.
    pub fn without_value(
        code: Code,
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { code, field: field.into(), found: None, problem: problem.into(), remedy: remedy.into() }
    }

    /// An error about something required that is missing.
    pub fn missing(field: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::without_value(Code::Missing, field, "missing", remedy)
    }

    /// A number of bytes, blocks or tokens past 2⁶⁴ − 1.
    pub fn too_large() -> Self {
        let field = "--seq-len, --batch, --layers, --head-dim or --bitwidth";
        Self::new(Code::TooLarge, field, "their product", "is past 2^64 - 1 bytes", "give smaller numbers")
    }

    /// The same error of this field.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }

    /// The same error, with the file, or whatever else holds the field, before it: `FILE: KEY`.
    #[must_use]
    pub fn in_file(self, origin: impl Into<String>) -> Self {
        let origin = origin.into();
        let field = if self.field.is_empty() { origin } else { format!("{origin}: {}", self.field) };
        Self { field, ..self }
    }

    /// The same error, with the object that has the key before it: `OBJECT.KEY`.
    #[must_use]
    pub fn within(self, path: &str) -> Self {
        let field = if self.field.is_empty() { path.to_owned() } else { format!("{path}.{}", self.field) };
        Self { field, ..self }
    }
}

impl fmt::Display for Error {
    /// `--tp: 3 does not divide the 8 KV heads; use one that does`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.as_deref().map(|found| if found.is_empty() { "an empty text" } else { found });
        let field = Some(format!("{}:", self.field)).filter(|_| !self.field.is_empty());
        let words = [field.as_deref(), found, Some(self.problem.as_str())].into_iter().flatten();
        let sentence = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        write!(f, "{sentence}; {}", self.remedy)
    }
}

impl std::error::Error for Error {}

/// The kinds of errors; their names in JSON are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The average length exceeds the longest request.
    Average,
    /// A budget without an assertion.
    AssertsNothing,
    /// A baseline that is not the output of `kvsize check --file`.
    Baseline,
    /// A fraction before a power of 1024.
    BinaryFraction,
    /// An overlay of models that cannot be used.
    Catalogue,
    /// Two options that exclude each other.
    Conflict,
    /// Decode context parallelism that the ranks or the KV heads do not allow.
    DecodeContext,
    /// A JSON key that is given twice.
    DuplicateKey,
    /// Two budgets of the same name.
    DuplicateName,
    /// An output format that does not apply.
    Format,
    /// A GGUF file where text is expected.
    Gguf,
    /// A GGUF file of the other byte order.
    GgufBigEndian,
    /// A GGUF header with an implausible count or length.
    GgufImplausible,
    /// A later part of a split GGUF file.
    GgufLaterPart,
    /// Not a GGUF file.
    GgufMagic,
    /// Nested arrays in a GGUF header.
    GgufNested,
    /// A GGUF tensor of an unknown type or an impossible size.
    GgufTensor,
    /// A GGUF header with more entries than are read.
    GgufTooMuch,
    /// A GGUF header that ends early.
    GgufTruncated,
    /// A GGUF key that is given twice.
    GgufTwice,
    /// A GGUF value of an unknown type.
    GgufValueType,
    /// A GGUF version that is not read.
    GgufVersion,
    /// A number of GPUs that does not apply.
    GpuCount,
    /// A GPU without a usable memory size.
    GpuMemory,
    /// A response of the hub that is malformed.
    HubAnswer,
    /// A TLS certificate that is not trusted.
    HubCertificate,
    /// A file of certificates that cannot be used.
    HubCertificates,
    /// A hub address that is not a URL.
    HubEndpoint,
    /// A file that the repository does not have.
    HubFile,
    /// A repository that the token may not read.
    HubForbidden,
    /// A gated repository.
    HubGated,
    /// A repository that does not exist, or is private.
    HubMissing,
    /// A repository without a configuration or GGUF file.
    HubNoModel,
    /// A repository that needs a token.
    HubPrivate,
    /// Too many requests to the hub.
    HubRateLimited,
    /// A redirect that is not followed.
    HubRedirect,
    /// A revision that the repository does not have.
    HubRevision,
    /// A failure of the hub's server.
    HubServer,
    /// An unexpected status of the hub.
    HubStatus,
    /// No response of the hub in time.
    HubTimedOut,
    /// A token that the hub refuses.
    HubToken,
    /// A response of the hub that ends early.
    HubTruncated,
    /// No connection to the hub.
    HubUnreachable,
    /// The `id` of a batch line that is not a scalar.
    Id,
    /// A safetensors index that names a file elsewhere.
    IndexOutside,
    /// A value outside the allowed ones.
    InvalidValue,
    /// A file or stream that cannot be read or written.
    Io,
    /// No layout of the GPUs works.
    Layout,
    /// The local GPUs cannot be read.
    LocalGpu,
    /// A required value that is missing.
    Missing,
    /// A missing model, or one too many.
    Model,
    /// A check without a budget.
    NoBudget,
    /// A model without a KV cache.
    NoCache,
    /// A build without the hub.
    NoClient,
    /// A directory without a configuration.
    NoConfig,
    /// A safetensors file without a configuration next to it.
    NoConfigBeside,
    /// An encoder length for a model without cross-attention.
    NoEncoder,
    /// A question about hardware without a GPU.
    NoGpu,
    /// A question that needs a context length.
    NoLength,
    /// A path that does not exist.
    NoSuchFile,
    /// A GPU of unknown memory size.
    NoTotal,
    /// An option without its value.
    NoValue,
    /// An engine without its version where one is required.
    NoVersion,
    /// A model of unknown weights.
    NoWeights,
    /// Dimensions that do not give the width of a head.
    NoWidth,
    /// Sliding or chunked layers without a window.
    NoWindow,
    /// A path that is not a regular file.
    NotAFile,
    /// A margin that is not a percentage below 100.
    NotAMargin,
    /// A text that is not a number.
    NotANumber,
    /// A text that is not a percentage.
    NotAPercentage,
    /// A text that is not a range with a step.
    NotARange,
    /// A text that is not a share of the whole.
    NotAShare,
    /// JSON that is not an object.
    NotAnObject,
    /// An option without effect on this question.
    NotCounted,
    /// A text that is not one JSON object.
    NotJson,
    /// A text that is not a number of passages of a number of tokens.
    NotPassages,
    /// A count below 1.
    NotPositive,
    /// A value that is not valid text.
    NotText,
    /// Input that is not UTF-8.
    NotUtf8,
    /// A number that is not whole.
    NotWhole,
    /// A model that is not in the local cache, while the hub is off.
    Offline,
    /// A setting of another engine.
    OtherEngine,
    /// A file of your own models or accelerators that cannot be read.
    Overlay,
    /// An engine's packed layout without that engine.
    PackedFormat,
    /// A shared prefix longer than the sequence.
    PrefixTooLong,
    /// An amount of money that cannot be read.
    Price,
    /// A price per node of an unknown number of GPUs.
    PriceNode,
    /// A price without a unit.
    PriceUnit,
    /// A combination that the engine refuses.
    Refused,
    /// A safetensors file shorter than its header says.
    SafetensorsCutShort,
    /// A tensor of an unknown dtype.
    SafetensorsDtype,
    /// A safetensors header longer than is read.
    SafetensorsHeaderTooLong,
    /// A safetensors index that cannot be used.
    SafetensorsIndex,
    /// A safetensors header that is not JSON.
    SafetensorsJson,
    /// A tensor with an impossible shape or offsets.
    SafetensorsTensor,
    /// A safetensors header that ends early.
    SafetensorsTruncated,
    /// Bytes of a safetensors file that no tensor covers.
    SafetensorsUncovered,
    /// A document of another schema.
    Schema,
    /// Several values where one is allowed.
    Several,
    /// Several GGUF files where one must be named.
    SeveralGguf,
    /// A share of the memory that does not apply.
    Share,
    /// A per-layer list with fewer entries than layers.
    ShortList,
    /// The article's shortcut cannot be divided over the ranks.
    ShortcutTensorParallel,
    /// More sinks than tokens.
    Sinks,
    /// A model object that cannot be read.
    Spec,
    /// Speculative decoding that the model does not support.
    Speculative,
    /// Standard input where it is not read.
    Stdin,
    /// Attention sinks that do not apply.
    Streaming,
    /// A warning under `--strict`.
    Strict,
    /// A text that is not JSON.
    Syntax,
    /// A value that a setting already fixes.
    ToldTwice,
    /// A result past 2^64 - 1.
    TooLarge,
    /// A line longer than is read.
    TooLong,
    /// More rows than are printed.
    TooMany,
    /// More layers than are read.
    TooManyLayers,
    /// More sharing layers than layers.
    TooManyShared,
    /// More pipeline stages than layers.
    TooManyStages,
    /// More tokens than the model's maximum.
    TooManyTokens,
    /// More decimals than are read.
    TooPrecise,
    /// A layer that two lists claim, or none.
    UnclearLayer,
    /// A hidden size that the heads do not divide.
    UnevenHeads,
    /// KV heads or states that do not divide over the ranks.
    UnevenTensorParallel,
    /// A GGUF architecture that is not known.
    UnknownArchitecture,
    /// An option that does not exist.
    UnknownArgument,
    /// An engine, or a version of one, that is not known.
    UnknownEngine,
    /// An element format that is not known.
    UnknownFormat,
    /// A GPU that is not known.
    UnknownGpu,
    /// A JSON key that is not known.
    UnknownKey,
    /// A layer type that is not known.
    UnknownLayerType,
    /// A model that is not known.
    UnknownModel,
    /// A per-layer override that is not read.
    UnknownOverride,
    /// A number with an unknown suffix.
    UnknownSuffix,
    /// A unit of bytes that is not known.
    UnknownUnit,
    /// A command line that does not parse.
    Usage,
    /// Weights that cannot be computed.
    WeightsUnknown,
    /// A JSON value of the wrong type.
    WrongType,
    /// Zero where at least one is needed.
    Zero,
}

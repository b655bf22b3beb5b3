//! What one cache asks, and how caches share one pool: groups of layers, whose pages alias the same bytes of a block
//! (`v1/core/kv_cache_planning.py`).

use super::{Cache, Request};
use crate::units::{Error, Exact, once};

/// Caches that share block tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Indices of the caches.
    pub(super) members: Vec<usize>,
    /// Their specs, each once.
    pub(super) specs: Vec<Spec>,
    pub(super) pages: Pages,
}

/// The page of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    /// One member's, as they are alike.
    Alike,
    /// The sum of the members'.
    Mixed,
}

/// What decides how caches are grouped.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Grouping {
    /// Blocks are outermost in memory, each with the pages of all layers side by side.
    pub(super) block_outermost: bool,
    /// Windows and chunks keep every token.
    pub(super) windows_off: bool,
}

impl Group {
    fn of(caches: &[Cache], members: Vec<usize>, pages: Pages) -> Self {
        let specs = once(members.iter().filter_map(|&member| caches.get(member)).map(|cache| cache.spec));
        Self { members, specs, pages }
    }

    /// Blocks that one request takes in it.
    pub(super) fn blocks(&self, request: &Request) -> Exact {
        self.specs.iter().fold(Exact::ZERO, |most, spec| most.max(spec.blocks(request)))
    }
}

/// The groups of a model, and its caches as the grouping left them: some with larger blocks or padded pages.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    pub(super) caches: Vec<Cache>,
    pub(super) groups: Vec<Group>,
}

/// Why caches can't be grouped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupError {
    /// A page of latents does not divide the largest page, and latents can't be padded.
    Indivisible,
    /// The manager of windows is off, and the caches can't all keep every token alike.
    NotOneType,
    /// A page is past 2⁶⁴ − 1 bytes.
    TooLarge(Error),
}

impl Groups {
    /// Groups the caches: one group if they are alike or need the same slots; packed side by side in each block where the
    /// layout puts blocks outermost; else pages of one size, dealt to groups of one number of layers.
    pub(super) fn of(mut caches: Vec<Cache>, grouping: Grouping) -> Result<Self, GroupError> {
        let Grouping { block_outermost, windows_off } = grouping;
        if windows_off {
            promote(&mut caches)?;
        }
        let one = |caches: &[Cache], pages| vec![Group::of(caches, (0..caches.len()).collect(), pages)];
        let first = caches.first().map(|cache| cache.spec);
        if caches.iter().all(|cache| Some(cache.spec) == first) {
            let groups = if caches.is_empty() { Vec::new() } else { one(&caches, Pages::Alike) };
            return Ok(Self { caches, groups });
        }
        if are_uniform(&caches) {
            return Ok(Self { groups: one(&caches, Pages::Mixed), caches });
        }
        if windows_off {
            return Err(GroupError::NotOneType);
        }
        if block_outermost && let Some(groups) = packed(&caches).map_err(GroupError::TooLarge)? {
            return Ok(Self { caches, groups });
        }
        if let Some(unified) = unified(&caches).map_err(GroupError::TooLarge)? {
            return Ok(Self { groups: dealt(&unified), caches: unified });
        }
        // Latents beside windows whose pages can't be made alike: the windows keep every token instead.
        let any = |of: fn(Kind) -> bool| caches.iter().any(|cache| of(cache.spec.kind));
        let latents_and_windows = any(|kind| kind == Kind::Latent)
            && any(|kind| matches!(kind, Kind::Sliding { .. }))
            && !any(|kind| matches!(kind, Kind::Chunked { .. } | Kind::SlidingLatent { .. }));
        if latents_and_windows && promote(&mut caches).is_ok() && are_uniform(&caches) {
            return Ok(Self { groups: one(&caches, Pages::Mixed), caches });
        }
        Err(GroupError::Indivisible)
    }

    /// Bytes of a group's page: one member's where they are alike, else the sum.
    pub(super) fn page(&self, group: &Group) -> Exact {
        match group.specs.first() {
            Some(spec) if group.pages == Pages::Alike => spec.page(),
            _ => self.sum_of_pages(group, |_| true),
        }
    }

    /// Bytes of one block of the pool on the rank that holds the layers of `within`: those of its widest group.
    pub(super) fn bytes_per_block(&self, within: impl Fn(u32) -> bool) -> Exact {
        self.groups.iter().fold(Exact::ZERO, |widest, group| widest.max(self.sum_of_pages(group, &within)))
    }

    /// Blocks that one request takes in all groups.
    pub(super) fn blocks_per_request(&self, request: &Request) -> Result<u64, Error> {
        self.groups.iter().map(|group| group.blocks(request)).sum::<Exact>().get()
    }

    fn sum_of_pages(&self, group: &Group, within: impl Fn(u32) -> bool) -> Exact {
        let members = group.members.iter().filter_map(|&member| self.caches.get(member));
        members.filter(|cache| within(cache.layer)).map(|cache| cache.spec.page()).sum()
    }
}

/// Whether all need the same token slots.
fn are_uniform(caches: &[Cache]) -> bool {
    caches.first().is_some_and(|first| caches.iter().all(|cache| first.spec.uniform_with(&cache.spec)))
}

/// Windows and chunks that keep every token, where full layers stand beside them (`_promote_local_kv_cache_specs`). Full
/// layers of two windows are never one type (`FullAttentionSpec.merge`), and windows of latents lose a field on the way.
fn promote(caches: &mut [Cache]) -> Result<(), GroupError> {
    let full: Vec<u64> =
        caches.iter().filter(|cache| cache.spec.kind.keeps_all()).map(|cache| cache.spec.block_size).collect();
    let Some(&first) = full.first() else { return Ok(()) };
    let is_latent = |cache: &Cache| matches!(cache.spec.kind, Kind::Latent | Kind::SlidingLatent { .. });
    let bounds = |bound: fn(Kind) -> Option<u64>| {
        let mut bounds = caches.iter().filter_map(move |cache| bound(cache.spec.kind));
        let first = bounds.next();
        bounds.any(|other| Some(other) != first)
    };
    let windows = bounds(|kind| if let Kind::Sliding { window, .. } = kind { Some(window) } else { None });
    let chunks = bounds(|kind| if let Kind::Chunked { chunk } = kind { Some(chunk) } else { None });
    let states = caches.iter().any(|cache| matches!(cache.spec.kind, Kind::State { .. } | Kind::Cross));
    let of_latents = caches.iter().any(|cache| matches!(cache.spec.kind, Kind::SlidingLatent { .. }));
    if of_latents || ((windows || chunks) && !states && !caches.iter().any(is_latent)) {
        return Err(GroupError::NotOneType);
    }
    let block_size = full.iter().all(|&size| size == first).then_some(first);
    for Cache { spec, .. } in caches {
        if matches!(spec.kind, Kind::Sliding { .. } | Kind::Chunked { .. }) {
            (spec.kind, spec.block_size) = (Kind::Full, block_size.unwrap_or(spec.block_size));
        }
    }
    Ok(())
}

/// Pages of one size: the blocks of smaller ones grow by a whole factor; states, and attention that no factor fits, are
/// padded (`unify_kv_cache_spec_page_size`). None where latents would have to be padded.
fn unified(caches: &[Cache]) -> Result<Option<Vec<Cache>>, Error> {
    let largest = caches.iter().fold(Exact::ZERO, |largest, cache| largest.max(cache.spec.page())).get()?;
    let mut unified = caches.to_vec();
    for Cache { spec, .. } in &mut unified {
        let page = spec.page().get()?;
        match spec.kind {
            _ if page == largest => {}
            Kind::State { .. } => spec.padded = Some(largest),
            _ if page > 0 && largest.is_multiple_of(page) => {
                spec.block_size = (Exact::from(largest) / page * spec.block_size).get()?;
            }
            Kind::Latent => return Ok(None),
            _ => spec.padded = Some(largest),
        }
    }
    Ok(Some(unified))
}

/// Groups of one number of layers: that of the smallest kind, or of the largest where that is less than half as many
/// again; what is missing in a group is padding. Layers are dealt in turn, so that each pipeline stage gets its share of
/// every group (`_get_kv_cache_groups_uniform_page_size`).
fn dealt(caches: &[Cache]) -> Vec<Group> {
    let kinds = gathered(caches.iter().enumerate().map(|(index, cache)| (cache.spec, index)), Spec::eq);
    let sizes = kinds.iter().map(|kind| kind.members.len());
    let (smallest, largest) = (sizes.clone().min().unwrap_or(1), sizes.max().unwrap_or(1));
    let group_size = if largest.saturating_mul(2) < smallest.saturating_mul(3) { largest } else { smallest };
    let mut groups = Vec::new();
    for Gathered { members, .. } in kinds {
        let count = members.len().div_ceil(group_size.max(1)).max(1);
        let of_group = |start| members.iter().copied().skip(start).step_by(count).collect();
        groups.extend((0..count).map(|start| Group::of(caches, of_group(start), Pages::Alike)));
    }
    groups
}

/// What has the same key, in the order in which keys are met.
pub(super) struct Gathered<K, T> {
    pub(super) key: K,
    pub(super) members: Vec<T>,
}

/// Items with their keys, gathered by keys that are the same by `eq`.
pub(super) fn gathered<K, T>(items: impl Iterator<Item = (K, T)>, eq: impl Fn(&K, &K) -> bool) -> Vec<Gathered<K, T>> {
    let mut all: Vec<Gathered<K, T>> = Vec::new();
    for (key, item) in items {
        match all.iter_mut().find(|known| eq(&known.key, &key)) {
            Some(known) => known.members.push(item),
            None => all.push(Gathered { key, members: vec![item] }),
        }
    }
    all
}

/// A bucket of caches that need the same slots, and these by the bytes of their pages.
struct Bucket {
    kind: Kind,
    members: Vec<usize>,
    sizes: Vec<Gathered<u64, usize>>,
}

impl Bucket {
    /// Whether there are as many caches of each size, a pattern that repeats.
    fn is_balanced(&self) -> bool {
        self.sizes.iter().all(|size| size.members.len() == self.repeats())
    }

    /// The most caches of one size: the repeats of the pattern.
    fn repeats(&self) -> usize {
        self.sizes.iter().map(|size| size.members.len()).max().unwrap_or_default()
    }

    /// Groups that it takes where a pattern repeats `repeats` times.
    fn fixed_groups(&self, repeats: Option<usize>) -> usize {
        repeats.filter(|_| self.is_balanced()).map_or(1, |repeats| self.repeats().div_ceil(repeats.max(1)))
    }

    /// Whether it takes the groups that fit beside the widest.
    fn is_state(&self, repeats: Option<usize>) -> bool {
        matches!(self.kind, Kind::State { .. }) || (repeats.is_none() && self.kind.slides())
    }

    /// Bytes of the widest of `groups` groups.
    fn widest(&self, groups: usize) -> Exact {
        self.sizes.iter().map(|size| Exact::from(size.members.len()).div_ceil(groups.max(1)) * size.key).sum()
    }

    /// The members of group `start` of `count`.
    fn dealt(&self, start: usize, count: usize) -> Vec<usize> {
        if count == 1 {
            return self.members.clone();
        }
        let of_repeat = |repeat: usize| self.sizes.iter().filter_map(move |size| size.members.get(repeat).copied());
        (0..self.repeats()).skip(start).step_by(count).flat_map(of_repeat).collect()
    }
}

/// The caches in buckets.
fn buckets(caches: &[Cache]) -> Result<Vec<Bucket>, Error> {
    let pages = caches.iter().map(|cache| cache.spec.page().get()).collect::<Result<Vec<_>, _>>()?;
    let numbered = caches.iter().zip(pages).enumerate().map(|(index, (cache, page))| (cache.spec, (page, index)));
    let bucket = |Gathered { key, members }: Gathered<Spec, (u64, usize)>| Bucket {
        kind: key.kind,
        members: members.iter().map(|&(_, index)| index).collect(),
        sizes: gathered(members.into_iter(), u64::eq),
    };
    Ok(gathered(numbered, Spec::uniform_with).into_iter().map(bucket).collect())
}

/// Pages of different sizes side by side in each block (`_get_packed_kv_cache_groups`); none where all are of one size.
fn packed(caches: &[Cache]) -> Result<Option<Vec<Group>>, Error> {
    let buckets = buckets(caches)?;
    let mut sizes = buckets.iter().flat_map(|bucket| &bucket.sizes).map(|size| size.key);
    let first = sizes.next();
    if sizes.all(|size| Some(size) == first) {
        return Ok(None);
    }
    let balanced = || buckets.iter().filter(|bucket| bucket.is_balanced());
    let lowest = balanced().filter(|bucket| bucket.sizes.len() > 1).map(Bucket::repeats).max();
    let all: Vec<usize> = balanced().map(Bucket::repeats).collect();
    let repeats = lowest.map(|lowest| least_padding(&all, lowest));
    let widest = buckets.iter().map(|bucket| {
        bucket.widest(if bucket.is_state(repeats) { bucket.members.len() } else { bucket.fixed_groups(repeats) })
    });
    let widest = widest.fold(Exact::ZERO, Exact::max).get()?;
    let mut groups = Vec::new();
    for bucket in &buckets {
        let mut count = bucket.fixed_groups(repeats);
        if let Some(size) = bucket.sizes.first().filter(|_| bucket.is_state(repeats)) {
            let within = usize::try_from(widest.checked_div(size.key).unwrap_or(1).max(1)).unwrap_or(usize::MAX);
            count = count.max(bucket.members.len().div_ceil(within));
        }
        groups.extend((0..count).map(|start| Group::of(caches, bucket.dealt(start, count), Pages::Mixed)));
    }
    Ok(Some(groups))
}

/// The size of a group, from `lowest` to the largest of `counts`, that pads the counts least; the largest of several
/// (`_approximate_gcd`).
fn least_padding(counts: &[usize], lowest: usize) -> usize {
    let lowest = lowest.max(1);
    let padding =
        |size: usize| -> usize { counts.iter().map(|count| count.next_multiple_of(size).saturating_sub(*count)).sum() };
    let highest = counts.iter().copied().max().unwrap_or(lowest).max(lowest);
    (lowest..=highest).rev().min_by_key(|&size| padding(size)).unwrap_or(lowest)
}

// What one cache of one layer asks of the pool on one rank (`v1/kv_cache_interface.py`).

/// The kind of a cache, by vLLM's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `FullAttentionSpec`
    Full,
    /// `MLAAttentionSpec`: latents, indices and compressed entries.
    Latent,
    /// `SlidingWindowSpec`; `extra` trailing tokens are kept below the window for chained draft modules.
    Sliding { window: u64, extra: u64 },
    /// `SlidingWindowMLASpec`
    SlidingLatent { window: u64, extra: u64 },
    /// `ChunkedLocalAttentionSpec`
    Chunked { chunk: u64 },
    /// `MambaSpec`: a whole block for each copy of the state that a request holds.
    State { copies: u64 },
    /// `CrossAttentionSpec`
    Cross,
}

impl Kind {
    /// vLLM's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "FullAttentionSpec",
            Self::Latent => "MLAAttentionSpec",
            Self::Sliding { .. } => "SlidingWindowSpec",
            Self::SlidingLatent { .. } => "SlidingWindowMLASpec",
            Self::Chunked { .. } => "ChunkedLocalAttentionSpec",
            Self::State { .. } => "MambaSpec",
            Self::Cross => "CrossAttentionSpec",
        }
    }

    /// Whether every token is kept.
    pub(super) fn keeps_all(self) -> bool {
        matches!(self, Self::Full | Self::Latent)
    }

    pub(super) fn is_latent(self) -> bool {
        matches!(self, Self::Latent | Self::SlidingLatent { .. })
    }

    /// The kind of a cache that has latents for heads.
    pub(super) fn of_latents(self) -> Self {
        match self {
            Self::Full => Self::Latent,
            Self::Sliding { window, extra } => Self::SlidingLatent { window, extra },
            other => other,
        }
    }

    /// Whether it slides.
    pub(super) fn slides(self) -> bool {
        matches!(self, Self::Sliding { .. } | Self::SlidingLatent { .. })
    }
}

/// A cache of a layer on one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) kind: Kind,
    /// Tokens of a block.
    pub(super) block_size: u64,
    /// Heads on the rank; 1 for a latent and a state.
    pub(super) heads: u64,
    /// Bytes of one head's entry; of a state all its bytes.
    pub(super) content: u64,
    /// Tokens of an entry.
    pub(super) tokens_per_entry: u64,
    /// Bytes that the page is padded to.
    pub(super) padded: Option<u64>,
    pub(super) entry: EntryShape,
}

/// Head dimensions and the bits of an element: caches that differ in these are never one spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryShape {
    pub(super) k: u64,
    pub(super) v: u64,
    pub(super) bits: u64,
}

impl Spec {
    /// A cache of one vector or state of `content` bytes for each token.
    pub(super) fn vector(kind: Kind, block_size: u64, content: u64) -> Self {
        let entry = EntryShape { k: content, v: 0, bits: 1 };
        Self { kind, block_size, heads: 1, content, tokens_per_entry: 1, padded: None, entry }
    }

    /// Bytes of a page before padding.
    pub(super) fn unpadded_page(&self) -> Exact {
        let content = Exact::from(self.content);
        match (self.kind, self.tokens_per_entry) {
            (Kind::State { .. }, _) => content,
            // A division of 128 bits is slow, and most have an entry for each token.
            (_, 1) => content * self.heads * self.block_size,
            (_, tokens) => content * self.heads * (Exact::from(self.block_size) / tokens),
        }
    }

    /// Bytes of a page.
    pub(super) fn page(&self) -> Exact {
        self.unpadded_page().max(self.padded.unwrap_or_default())
    }

    /// Tokens that one request reserves room for, before they are rounded to blocks; of a state, its copies.
    pub(super) fn reserved(&self, request: &Request) -> Exact {
        let in_flight = |tokens: Exact| (tokens + request.in_flight).min(request.len);
        match self.kind {
            Kind::Full | Kind::Latent => Exact::from(request.len).div_ceil(request.dcp.max(1)),
            Kind::Sliding { window, extra } | Kind::SlidingLatent { window, extra } => {
                in_flight(Exact::from(window.max(1)) + extra - 1u64)
            }
            Kind::Chunked { chunk } => in_flight(chunk.into()),
            Kind::State { copies } => copies.into(),
            Kind::Cross => request.encoder_budget.into(),
        }
    }

    /// Blocks that one request reserves. A window may begin inside a block, so it takes one more.
    pub(super) fn blocks(&self, request: &Request) -> Exact {
        match self.kind {
            Kind::State { copies } => copies.into(),
            kind => self.reserved(request).div_ceil(self.block_size.max(1)) + u64::from(kind.slides()),
        }
    }

    /// Whether the two need the same token slots at all times, so that they can be one group with pages of different
    /// sizes (`is_uniform_with_collection`).
    pub(super) fn uniform_with(&self, other: &Self) -> bool {
        if self.block_size != other.block_size {
            return false;
        }
        match (self.kind, other.kind) {
            (Kind::Full | Kind::Latent, Kind::Full | Kind::Latent) | (Kind::Cross, Kind::Cross) => true,
            (
                Kind::Sliding { window, .. } | Kind::SlidingLatent { window, .. },
                Kind::Sliding { window: other, .. } | Kind::SlidingLatent { window: other, .. },
            ) => window == other,
            (Kind::Chunked { chunk }, Kind::Chunked { chunk: other }) => chunk == other,
            (Kind::State { copies }, Kind::State { copies: others }) => copies == others && self.page() == other.page(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caches(kinds: &[(Kind, u64, usize)]) -> Vec<Cache> {
        let mut layer = 0;
        let mut caches = Vec::new();
        for &(kind, content, count) in kinds {
            for _ in 0..count {
                let spec = Spec::vector(kind, 16, content);
                caches.push(Cache { layer, spec, source: 0 });
                layer += 1;
            }
        }
        caches
    }

    fn sizes(groups: &Groups) -> Vec<usize> {
        groups.groups.iter().map(|group| group.members.len()).collect()
    }

    const WINDOWS_OFF: Grouping = Grouping { block_outermost: false, windows_off: true };
    const SLIDING: Kind = Kind::Sliding { window: 128, extra: 0 };

    #[test]
    fn layers_are_dealt_to_groups_of_the_smallest_kind_or_of_the_largest_when_near() {
        let groups = Groups::of(caches(&[(Kind::Full, 4, 10), (SLIDING, 4, 52)]), Grouping::default()).unwrap();
        assert_eq!(sizes(&groups), [10, 9, 9, 9, 9, 8, 8]);
        assert_eq!(groups.groups[1].members[..3], [10, 16, 22]);
        let groups = Groups::of(caches(&[(Kind::Full, 4, 13), (SLIDING, 4, 12)]), Grouping::default()).unwrap();
        assert_eq!(sizes(&groups), [13, 12]);
        let groups = Groups::of(caches(&[(Kind::Full, 4, 2), (SLIDING, 4, 3)]), Grouping::default()).unwrap();
        assert_eq!(sizes(&groups), [2, 2, 1]);
        assert_eq!(sizes(&Groups::of(caches(&[(Kind::Full, 4, 10), (SLIDING, 4, 52)]), WINDOWS_OFF).unwrap()), [62]);
    }

    #[test]
    fn pages_of_two_sizes_grow_or_are_padded() {
        let groups = Groups::of(caches(&[(Kind::Full, 4, 2), (SLIDING, 8, 2)]), Grouping::default()).unwrap();
        assert_eq!((groups.caches[0].spec.block_size, groups.caches[2].spec.block_size), (32, 16));
        let groups = Groups::of(caches(&[(Kind::Full, 6, 2), (SLIDING, 8, 2)]), Grouping::default()).unwrap();
        assert_eq!((groups.caches[0].spec.block_size, groups.caches[0].spec.page().get()), (16, Ok(128)));
        // Latents can't be padded: the windows keep every token instead.
        let groups = Groups::of(caches(&[(Kind::Latent, 6, 2), (SLIDING, 8, 1)]), Grouping::default()).unwrap();
        assert_eq!((sizes(&groups), groups.bytes_per_block(|_| true).get()), (vec![3], Ok(16 * (6 + 6 + 8))));
        let chunk = Kind::Chunked { chunk: 8 };
        assert_eq!(
            Groups::of(
                caches(&[(Kind::Latent, 6, 2), (chunk, 8, 1), (Kind::State { copies: 1 }, 1_000, 1)]),
                Grouping::default()
            )
            .unwrap_err(),
            GroupError::Indivisible
        );
    }

    /// As the planner itself refuses them, tried on specs at random.
    #[test]
    fn what_can_not_keep_every_token_is_refused() {
        let wide = Kind::Sliding { window: 512, extra: 0 };
        let latents = Kind::SlidingLatent { window: 128, extra: 0 };
        let chunk = Kind::Chunked { chunk: 8 };
        let of =
            |kinds: &[(Kind, u64, usize)], grouping| Groups::of(caches(kinds), grouping).map(|groups| sizes(&groups));
        assert_eq!(of(&[(Kind::Full, 4, 1), (SLIDING, 4, 1), (wide, 4, 1)], WINDOWS_OFF), Err(GroupError::NotOneType));
        assert_eq!(of(&[(Kind::Latent, 4, 1), (SLIDING, 4, 1), (wide, 4, 1)], WINDOWS_OFF), Ok(vec![3]));
        assert_eq!(of(&[(Kind::Latent, 4, 1), (latents, 4, 1)], WINDOWS_OFF), Err(GroupError::NotOneType));
        assert_eq!(
            of(&[(Kind::Latent, 6, 2), (SLIDING, 8, 1), (chunk, 8, 1)], Grouping::default()),
            Err(GroupError::Indivisible)
        );
    }

    #[test]
    fn the_least_padding_of_several_is_the_largest_size() {
        assert_eq!(least_padding(&[43, 21, 20], 21), 22);
        assert_eq!(least_padding(&[61, 30, 31], 30), 31);
        assert_eq!(least_padding(&[4, 4], 1), 4);
    }

    fn spec(kind: Kind) -> Spec {
        Spec { heads: 8, ..Spec::vector(kind, 16, 512) }
    }

    fn request(len: u64) -> Request {
        Request { len, in_flight: 16_384, dcp: 1, encoder_budget: 8_192 }
    }

    /// Figures of vLLM's own planner.
    #[test]
    fn blocks_are_those_of_the_planner() {
        for (kind, len, blocks) in [
            (Kind::Full, 131_072, 8_192),
            (Kind::Full, 17, 2),
            (Kind::Sliding { window: 128, extra: 0 }, 131_072, 1_033),
            (Kind::Sliding { window: 4_096, extra: 0 }, 32_768, 1_281),
            (Kind::Sliding { window: 512, extra: 2 }, 131_072, 1_058),
            (Kind::Sliding { window: 512, extra: 0 }, 131_072, 1_057),
            (Kind::Chunked { chunk: 8_192 }, 131_072, 1_536),
            (Kind::State { copies: 3 }, 131_072, 3),
            (Kind::Cross, 448, 512),
        ] {
            assert_eq!(spec(kind).blocks(&request(len)).get(), Ok(blocks), "{kind:?} {len}");
        }
    }

    /// A sum past 2⁶⁴ − 1 is all of the request, or no number at all: never 2⁶⁴ − 1 blocks.
    #[test]
    fn what_overflows_is_the_whole_request_or_none() {
        let request = Request { in_flight: u64::MAX, ..request(1_000) };
        assert_eq!(spec(Kind::Sliding { window: 512, extra: 0 }).blocks(&request).get(), Ok(64));
        let endless = Request { len: u64::MAX, ..request };
        let window = Spec { block_size: 1, ..spec(Kind::Sliding { window: 512, extra: 0 }) };
        assert!(window.blocks(&endless).get().is_err());
        assert!(Spec { content: u64::MAX, ..spec(Kind::Full) }.page().get().is_err());
    }

    #[test]
    fn pages_are_padded_and_states_have_one_size() {
        assert_eq!(spec(Kind::Full).page().get(), Ok(65_536));
        assert_eq!(Spec { padded: Some(70_000), ..spec(Kind::Full) }.page().get(), Ok(70_000));
        assert_eq!(Spec { tokens_per_entry: 4, ..spec(Kind::Latent) }.page().get(), Ok(16_384));
        assert_eq!(Spec { content: 4_242, ..spec(Kind::State { copies: 1 }) }.page().get(), Ok(4_242));
    }
}

//! How caches share one pool: groups of layers, whose pages alias the same bytes of a block
//! (`v1/core/kv_cache_planning.py`).

use super::spec::{Kind, Spec};
use super::{Cache, Request};

/// Caches that share block tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Indices of the caches.
    pub(super) members: Vec<usize>,
    /// Their specs, each once.
    pub(super) specs: Vec<Spec>,
    /// Whether the members differ, so that the group's page is the sum of theirs.
    pub(super) mixed: bool,
}

impl Group {
    fn of(caches: &[Cache], members: Vec<usize>, mixed: bool) -> Self {
        let mut specs = Vec::new();
        for cache in members.iter().filter_map(|&member| caches.get(member)) {
            if !specs.contains(&cache.spec) {
                specs.push(cache.spec);
            }
        }
        Self { members, specs, mixed }
    }

    /// Blocks that one request takes in it.
    pub(super) fn blocks(&self, request: &Request) -> u64 {
        self.specs.iter().map(|spec| spec.blocks(request)).max().unwrap_or_default()
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
    /// A product passes 2⁶⁴ − 1.
    TooLarge,
}

impl Groups {
    /// Groups the caches: one group if they are alike or need the same slots; packed side by side in each block where the
    /// layout puts blocks outermost; else pages of one size, dealt to groups of one number of layers.
    pub(super) fn of(mut caches: Vec<Cache>, block_outermost: bool, windows_off: bool) -> Result<Self, GroupError> {
        if windows_off {
            promote(&mut caches)?;
        }
        let one = |caches: &[Cache], mixed| vec![Group::of(caches, (0..caches.len()).collect(), mixed)];
        let first = caches.first().map(|cache| cache.spec);
        if caches.iter().all(|cache| Some(cache.spec) == first) {
            let groups = if caches.is_empty() { Vec::new() } else { one(&caches, false) };
            return Ok(Self { caches, groups });
        }
        if first.is_some_and(|first| caches.iter().all(|cache| first.uniform_with(&cache.spec))) {
            return Ok(Self { groups: one(&caches, true), caches });
        }
        if windows_off {
            return Err(GroupError::NotOneType);
        }
        if block_outermost && let Some(groups) = packed(&caches)? {
            return Ok(Self { caches, groups });
        }
        match unified(&caches) {
            Ok(unified) => Ok(Self { groups: dealt(&unified), caches: unified }),
            // Latents beside windows whose pages can't be made alike: the windows keep every token instead.
            Err(GroupError::Indivisible) => {
                let latents = caches.iter().any(|cache| cache.spec.kind == Kind::Latent);
                let windows = caches.iter().any(|cache| matches!(cache.spec.kind, Kind::Sliding { .. }));
                let others = |kind| matches!(kind, Kind::Chunked { .. } | Kind::SlidingLatent { .. });
                if caches.iter().any(|cache| others(cache.spec.kind)) || promote(&mut caches).is_err() {
                    return Err(GroupError::Indivisible);
                }
                let first = caches.first().map(|cache| cache.spec).ok_or(GroupError::Indivisible)?;
                let uniform = caches.iter().all(|cache| first.uniform_with(&cache.spec));
                if latents && windows && uniform {
                    return Ok(Self { groups: one(&caches, true), caches });
                }
                Err(GroupError::Indivisible)
            }
            Err(error) => Err(error),
        }
    }

    /// Bytes of a group's page: one member's where they are alike, else the sum.
    pub(super) fn page(&self, group: &Group) -> Option<u64> {
        if group.mixed {
            return self.sum_of_pages(group, |_| true);
        }
        group.specs.first()?.page()
    }

    /// Bytes of one block of the pool on the rank that holds the layers of `within`: those of its widest group.
    pub(super) fn bytes_per_block(&self, within: impl Fn(u32) -> bool) -> Option<u64> {
        let mut widest = self.groups.iter().map(|group| self.sum_of_pages(group, &within));
        widest.try_fold(0, |most: u64, bytes| Some(most.max(bytes?)))
    }

    /// Blocks that one request takes in all groups.
    pub(super) fn blocks_per_request(&self, request: &Request) -> u64 {
        self.groups.iter().fold(0, |sum, group| sum.saturating_add(group.blocks(request)))
    }

    /// The caches, those of one spec and layer group as one, with their number.
    pub(super) fn alike(&self) -> Vec<(Cache, u64)> {
        let mut alike: Vec<(Cache, u64)> = Vec::new();
        for cache in &self.caches {
            let same = |(other, _): &&mut (Cache, u64)| (other.spec, other.source) == (cache.spec, cache.source);
            match alike.iter_mut().find(same) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => alike.push((*cache, 1)),
            }
        }
        alike
    }

    fn sum_of_pages(&self, group: &Group, within: impl Fn(u32) -> bool) -> Option<u64> {
        let members = group.members.iter().filter_map(|&member| self.caches.get(member));
        members.filter(|cache| within(cache.layer)).try_fold(0u64, |sum, cache| sum.checked_add(cache.spec.page()?))
    }
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
    if (windows || chunks) && !states && !caches.iter().any(is_latent) {
        return Err(GroupError::NotOneType);
    }
    if caches.iter().any(|cache| matches!(cache.spec.kind, Kind::SlidingLatent { .. })) {
        return Err(GroupError::NotOneType);
    }
    let block_size = full.iter().all(|&size| size == first).then_some(first);
    for cache in caches {
        let kind = match cache.spec.kind {
            Kind::Sliding { .. } | Kind::Chunked { .. } => Kind::Full,
            _ => continue,
        };
        cache.spec = Spec { kind, block_size: block_size.unwrap_or(cache.spec.block_size), ..cache.spec };
    }
    Ok(())
}

/// Pages of one size: the blocks of smaller ones grow by a whole factor; states, and attention that no factor fits, are
/// padded (`unify_kv_cache_spec_page_size`).
fn unified(caches: &[Cache]) -> Result<Vec<Cache>, GroupError> {
    let largest = caches.iter().try_fold(0u64, |most, cache| Some(most.max(cache.spec.page()?)));
    let largest = largest.ok_or(GroupError::TooLarge)?;
    let unify = |cache: &Cache| {
        let page = cache.spec.page().ok_or(GroupError::TooLarge)?;
        if page == largest {
            return Ok(*cache);
        }
        let padded = Spec { padded: Some(largest), ..cache.spec };
        let spec = match cache.spec.kind {
            Kind::State { .. } => padded,
            _ => match largest.checked_div(page).filter(|_| largest.is_multiple_of(page)) {
                Some(factor) => {
                    let block_size = cache.spec.block_size.checked_mul(factor).ok_or(GroupError::TooLarge)?;
                    Spec { block_size, ..cache.spec }
                }
                None if cache.spec.kind == Kind::Latent => return Err(GroupError::Indivisible),
                None => padded,
            },
        };
        Ok(Cache { spec, ..*cache })
    };
    caches.iter().map(unify).collect()
}

/// Groups of one number of layers: that of the smallest kind, or of the largest where that is less than half as many
/// again; what is missing in a group is padding. Layers are dealt in turn, so that each pipeline stage gets its share of
/// every group (`_get_kv_cache_groups_uniform_page_size`).
fn dealt(caches: &[Cache]) -> Vec<Group> {
    let mut kinds: Vec<(Spec, Vec<usize>)> = Vec::new();
    for (index, cache) in caches.iter().enumerate() {
        match kinds.iter_mut().find(|(spec, _)| *spec == cache.spec) {
            Some((_, members)) => members.push(index),
            None => kinds.push((cache.spec, vec![index])),
        }
    }
    let sizes = kinds.iter().map(|(_, members)| members.len());
    let (smallest, largest) = (sizes.clone().min().unwrap_or(1), sizes.max().unwrap_or(1));
    let group_size = if largest.saturating_mul(2) < smallest.saturating_mul(3) { largest } else { smallest };
    let mut groups = Vec::new();
    for (_, members) in kinds {
        let count = members.len().div_ceil(group_size.max(1));
        for start in 0..count {
            let members = members.iter().copied().skip(start).step_by(count.max(1)).collect();
            groups.push(Group::of(caches, members, false));
        }
    }
    groups
}

/// A bucket of caches that need the same slots, by the size of their pages.
struct Bucket {
    members: Vec<usize>,
    by_page: Vec<(u64, Vec<usize>)>,
}

impl Bucket {
    /// Whether there are as many caches of each size, a pattern that repeats.
    fn is_balanced(&self) -> bool {
        let first = self.by_page.first().map(|(_, members)| members.len());
        self.by_page.iter().all(|(_, members)| Some(members.len()) == first)
    }

    /// The most caches of one size: the repeats of the pattern.
    fn repeats(&self) -> usize {
        self.by_page.iter().map(|(_, members)| members.len()).max().unwrap_or_default()
    }

    /// Bytes of the widest of `groups` groups.
    fn widest(&self, groups: usize) -> Option<u64> {
        self.by_page.iter().try_fold(0u64, |sum, (page, members)| {
            let each = u64::try_from(members.len().div_ceil(groups.max(1))).ok()?;
            sum.checked_add(each.checked_mul(*page)?)
        })
    }
}

/// Pages of different sizes side by side in each block (`_get_packed_kv_cache_groups`); none where all are of one size.
fn packed(caches: &[Cache]) -> Result<Option<Vec<Group>>, GroupError> {
    let page = |index: usize| caches.get(index).and_then(|cache: &Cache| cache.spec.page()).ok_or(GroupError::TooLarge);
    let first = page(0)?;
    let mut alike = true;
    let mut buckets: Vec<Bucket> = Vec::new();
    for (index, cache) in caches.iter().enumerate() {
        let page = page(index)?;
        alike &= page == first;
        let fits = |bucket: &&Bucket| {
            bucket
                .members
                .first()
                .and_then(|&member| caches.get(member))
                .is_some_and(|other| other.spec.uniform_with(&cache.spec))
        };
        let known = buckets.iter().position(|bucket| fits(&bucket));
        let place = known.unwrap_or_else(|| {
            buckets.push(Bucket { members: Vec::new(), by_page: Vec::new() });
            buckets.len().saturating_sub(1)
        });
        let bucket = buckets.get_mut(place).ok_or(GroupError::TooLarge)?;
        bucket.members.push(index);
        match bucket.by_page.iter_mut().find(|(known, _)| *known == page) {
            Some((_, members)) => members.push(index),
            None => bucket.by_page.push((page, vec![index])),
        }
    }
    if alike {
        return Ok(None);
    }
    let lowest = buckets.iter().filter(|bucket| bucket.is_balanced() && bucket.by_page.len() > 1).map(Bucket::repeats);
    let repeats = lowest.max().map(|lowest| {
        let all: Vec<usize> = buckets.iter().filter(|bucket| bucket.is_balanced()).map(Bucket::repeats).collect();
        least_padding(&all, lowest)
    });
    let kind = |bucket: &Bucket| bucket.members.first().and_then(|&member| caches.get(member)).map(|c| c.spec.kind);
    let is_state = |bucket: &Bucket| match kind(bucket) {
        Some(Kind::State { .. }) => true,
        Some(kind) => repeats.is_none() && kind.slides(),
        None => false,
    };
    let fixed_groups = |bucket: &Bucket| match repeats {
        Some(repeats) if bucket.is_balanced() => bucket.repeats().div_ceil(repeats.max(1)),
        _ => 1,
    };
    let anchor = buckets.iter().try_fold(0u64, |most, bucket| {
        let groups = if is_state(bucket) { bucket.members.len() } else { fixed_groups(bucket) };
        Some(most.max(bucket.widest(groups)?))
    });
    let anchor = anchor.ok_or(GroupError::TooLarge)?;
    let mut groups = Vec::new();
    for bucket in &buckets {
        let mut count = fixed_groups(bucket);
        if let (true, Some((page, _))) = (is_state(bucket), bucket.by_page.first()) {
            let within = anchor.checked_div(*page).unwrap_or(1).max(1);
            let within = usize::try_from(within).unwrap_or(usize::MAX);
            count = count.max(bucket.members.len().div_ceil(within));
        }
        for start in 0..count {
            let members = if count == 1 {
                bucket.members.clone()
            } else {
                let repeats = (0..bucket.repeats()).skip(start).step_by(count);
                let of_repeat = |repeat: usize| bucket.by_page.iter().filter_map(move |(_, m)| m.get(repeat).copied());
                repeats.flat_map(of_repeat).collect()
            };
            groups.push(Group::of(caches, members, true));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn caches(kinds: &[(Kind, u64, usize)]) -> Vec<Cache> {
        let mut layer = 0;
        let mut caches = Vec::new();
        for &(kind, content, count) in kinds {
            for _ in 0..count {
                let spec = Spec {
                    kind,
                    block_size: 16,
                    heads: 1,
                    content,
                    tokens_per_entry: 1,
                    padded: None,
                    shape: (content, 0, 1),
                };
                caches.push(Cache { layer, spec, source: 0 });
                layer += 1;
            }
        }
        caches
    }

    fn sizes(groups: &Groups) -> Vec<usize> {
        groups.groups.iter().map(|group| group.members.len()).collect()
    }

    const SLIDING: Kind = Kind::Sliding { window: 128, extra: 0 };

    #[test]
    fn layers_are_dealt_to_groups_of_the_smallest_kind_or_of_the_largest_when_near() {
        let groups = Groups::of(caches(&[(Kind::Full, 4, 10), (SLIDING, 4, 52)]), false, false).unwrap();
        assert_eq!(sizes(&groups), [10, 9, 9, 9, 9, 8, 8]);
        assert_eq!(groups.groups[1].members[..3], [10, 16, 22]);
        let groups = Groups::of(caches(&[(Kind::Full, 4, 13), (SLIDING, 4, 12)]), false, false).unwrap();
        assert_eq!(sizes(&groups), [13, 12]);
        let groups = Groups::of(caches(&[(Kind::Full, 4, 2), (SLIDING, 4, 3)]), false, false).unwrap();
        assert_eq!(sizes(&groups), [2, 2, 1]);
        assert_eq!(sizes(&Groups::of(caches(&[(Kind::Full, 4, 10), (SLIDING, 4, 52)]), false, true).unwrap()), [62]);
    }

    #[test]
    fn pages_of_two_sizes_grow_or_are_padded() {
        let groups = Groups::of(caches(&[(Kind::Full, 4, 2), (SLIDING, 8, 2)]), false, false).unwrap();
        assert_eq!((groups.caches[0].spec.block_size, groups.caches[2].spec.block_size), (32, 16));
        let groups = Groups::of(caches(&[(Kind::Full, 6, 2), (SLIDING, 8, 2)]), false, false).unwrap();
        assert_eq!((groups.caches[0].spec.block_size, groups.caches[0].spec.page()), (16, Some(128)));
        // Latents can't be padded: the windows keep every token instead.
        let groups = Groups::of(caches(&[(Kind::Latent, 6, 2), (SLIDING, 8, 1)]), false, false).unwrap();
        assert_eq!((sizes(&groups), groups.bytes_per_block(|_| true)), (vec![3], Some(16 * (6 + 6 + 8))));
        let chunk = Kind::Chunked { chunk: 8 };
        assert_eq!(
            Groups::of(
                caches(&[(Kind::Latent, 6, 2), (chunk, 8, 1), (Kind::State { copies: 1 }, 1_000, 1)]),
                false,
                false
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
        let of = |kinds: &[(Kind, u64, usize)], off| Groups::of(caches(kinds), false, off).map(|groups| sizes(&groups));
        assert_eq!(of(&[(Kind::Full, 4, 1), (SLIDING, 4, 1), (wide, 4, 1)], true), Err(GroupError::NotOneType));
        assert_eq!(of(&[(Kind::Latent, 4, 1), (SLIDING, 4, 1), (wide, 4, 1)], true), Ok(vec![3]));
        assert_eq!(of(&[(Kind::Latent, 4, 1), (latents, 4, 1)], true), Err(GroupError::NotOneType));
        assert_eq!(of(&[(Kind::Latent, 6, 2), (SLIDING, 8, 1), (chunk, 8, 1)], false), Err(GroupError::Indivisible));
    }

    #[test]
    fn the_least_padding_of_several_is_the_largest_size() {
        assert_eq!(least_padding(&[43, 21, 20], 21), 22);
        assert_eq!(least_padding(&[61, 30, 31], 30), 31);
        assert_eq!(least_padding(&[4, 4], 1), 4);
    }
}

    var values = [&]
@LISTS@    set command = 'kvsize'
    if (and (> (count $words) 2) (has-value [@COMMANDS@] $words[1])) {
        set command = 'kvsize;'$words[1]
    }
    var before = $words[-2]
    var completions = [

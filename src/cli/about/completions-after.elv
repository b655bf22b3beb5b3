    if (has-key $values $command' '$before) {
        all $values[$command' '$before]
    } else {
        $completions[$command]
        if (and (has-key $values $command' MODEL') (not (str:has-prefix $before '-'))) {
            all $values[$command' MODEL']
        }
    }
}

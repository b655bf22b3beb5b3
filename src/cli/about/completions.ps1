    $values = @{}
@LISTS@    $words = @($commandElements | ForEach-Object { $_.Extent.Text })
    if ($words.Count -gt 1 -and $words[-1] -eq $wordToComplete) { $words = @($words | Select-Object -SkipLast 1) }
    $command = 'kvsize'
    if ($words.Count -gt 1 -and $words[1] -in @COMMANDS@) { $command = "kvsize;$($words[1])" }
    $before = "$($words[-1])"
    $offered = @()
    if ($values.ContainsKey("$command $before")) {
        $offered = $values["$command $before"]
        $command = ''
    } elseif (-not $before.StartsWith('-') -and $values.ContainsKey("$command MODEL")) {
        $offered = $values["$command MODEL"]
    }

    $completions = @(
        foreach ($value in $offered) {
            [CompletionResult]::new($value, $value, [CompletionResultType]::ParameterValue, $value)
        }
        switch ($command) {

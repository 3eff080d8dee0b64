# Checks this folder's files, finds a Python, and runs install.py. Windows PowerShell 5.1 or newer.
$to = ""
$python = ""
$key = ""
$ErrorActionPreference = "Stop"
Set-StrictMode -Version 2

function Stop-Install([string]$text) {
    [Console]::Error.WriteLine("install: " + $text)
    exit 1
}

function Get-Digest([byte[]]$data) {
    $sha = [System.Security.Cryptography.SHA256]::Create()
    try { return -join ($sha.ComputeHash($data) | ForEach-Object { $_.ToString("x2") }) } finally { $sha.Dispose() }
}

function Get-FileDigest([string]$path) {
    $stream = [System.IO.File]::OpenRead($path)
    $sha = [System.Security.Cryptography.SHA256]::Create()
    try { return -join ($sha.ComputeHash($stream) | ForEach-Object { $_.ToString("x2") }) } finally { $sha.Dispose(); $stream.Dispose() }
}

function Get-PublicKey([string]$path) {
    $text = [System.IO.File]::ReadAllText($path)
    if ($text.StartsWith("ssh-ed25519 ")) { return ($text -split "\s+")[0..1] -join " " }
    $body = @($text -split "\r?\n" | Where-Object { $_ -notmatch "^-----" }) -join ""
    # 12 bytes that say Ed25519 (RFC 8410), then the key's 32.
    if (-not $text.StartsWith("-----BEGIN PUBLIC KEY-----") -or $body -cnotmatch '^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=$') { Stop-Install "$path is not an Ed25519 public key (PEM or OpenSSH). Check --public-key." }
    $data = [System.Convert]::FromBase64String($body)
    $blob = [byte[]](0, 0, 0, 11) + [System.Text.Encoding]::ASCII.GetBytes("ssh-ed25519") + [byte[]](0, 0, 0, 32) + $data[12..43]
    return "ssh-ed25519 " + [System.Convert]::ToBase64String([byte[]]$blob)
}

# Before anything else of the bundle is read or run.
function Test-Signature([string]$root, [string]$key) {
    $signature = Join-Path $root "SHA256SUMS.sig"
    if (-not (Test-Path -LiteralPath $signature -PathType Leaf)) { Stop-Install "The bundle has no signature, and --public-key asks for one. Ask for a signed one." }
    # Windows' own, never one that lies in the current folder.
    $tool = Join-Path $env:SystemRoot "System32\OpenSSH\ssh-keygen.exe"
    if (-not (Test-Path -LiteralPath $tool -PathType Leaf)) { Stop-Install "A signature is checked by ssh-keygen (OpenSSH 8.1 or newer), and it is not installed. Install the optional feature OpenSSH Client." }
    $work = Join-Path ([System.IO.Path]::GetTempPath()) ("wetread-" + [System.Guid]::NewGuid().ToString("N"))
    New-Item -ItemType Directory -Path $work | Out-Null
    try {
        [System.IO.File]::WriteAllText((Join-Path $work "signers"), "wetread-bundle " + (Get-PublicKey $key) + "`n")
        Copy-Item -LiteralPath $signature -Destination (Join-Path $work "sums.sig")
        # A pipe of PowerShell would change the bytes; a file does not.
        Copy-Item -LiteralPath (Join-Path $root "SHA256SUMS") -Destination (Join-Path $work "sums")
        $line = '-Y verify -f "{0}\signers" -I wetread-bundle -n wetread-bundle -s "{0}\sums.sig"' -f $work
        $done = Start-Process -FilePath $tool -ArgumentList $line -RedirectStandardInput (Join-Path $work "sums") -NoNewWindow -Wait -PassThru
        if ($done.ExitCode -ne 0) { Stop-Install "The bundle is not signed by the key in $key. Do not install it." }
    } finally { Remove-Item -Recurse -Force -LiteralPath $work -ErrorAction SilentlyContinue }
}

# Returns the names of the files that SHA256SUMS lists.
function Test-Files([string]$root) {
    $sums = Join-Path $root "SHA256SUMS"
    if (-not (Test-Path -LiteralPath $sums -PathType Leaf)) { Stop-Install "SHA256SUMS is missing beside install.ps1. Unpack the bundle again." }
    $utf8 = New-Object System.Text.UTF8Encoding($false)
    $text = $utf8.GetString([System.IO.File]::ReadAllBytes($sums))
    $cut = $text.TrimEnd("`n").LastIndexOf("`n") + 1
    $listed = $text.Substring(0, $cut)
    if ($text.Substring($cut) -cne ((Get-Digest ($utf8.GetBytes($listed))) + "  SHA256SUMS`n")) { Stop-Install "SHA256SUMS changed after the bundle was made. Copy the bundle again." }
    $names = @{}
    foreach ($line in $listed.TrimEnd("`n").Split("`n")) {
        $name = $line.Substring(66)
        $names[$name] = $true
        $path = Join-Path $root ($name.Replace("/", "\"))
        if (-not (Test-Path -LiteralPath $path -PathType Leaf)) { Stop-Install "$name is missing. Unpack the bundle again." }
        if ((Get-FileDigest $path) -cne $line.Substring(0, 64)) { Stop-Install "$name changed after the bundle was made. Copy the bundle again." }
    }
    foreach ($file in @(Get-ChildItem -LiteralPath $root -Recurse -Force)) {
        $name = $file.FullName.Substring($root.Length).TrimStart("\").Replace("\", "/")
        if (@("SymbolicLink", "Junction") -contains $file.LinkType) { Stop-Install "$name is a link, and a bundle has none. Unpack the bundle again, into an empty folder." }
        if ($file.PSIsContainer) { continue }
        # File managers leave the last two in a folder that is opened; nothing reads them at the top.
        if (@("SHA256SUMS", "SHA256SUMS.sig", "Thumbs.db", "desktop.ini") -notcontains $name -and -not $names.ContainsKey($name)) { Stop-Install "$name does not belong to the bundle. Unpack the bundle again, into an empty folder." }
    }
    return $names.Keys
}

function Test-Python([string[]]$command, [string]$wanted) {
    $check = "import struct, sys; sys.exit(sys.version_info[:2] != tuple(map(int, '$wanted'.split('.'))) or struct.calcsize('P') != 8)"
    $rest = @($command | Select-Object -Skip 1)
    try { & $command[0] @rest -I -c $check 2>$null | Out-Null } catch { return $false }
    return $LASTEXITCODE -eq 0
}

for ($index = 0; $index -lt $args.Count; $index += 2) {
    if ($index + 1 -ge $args.Count -or -not $args[$index + 1] -or @("--to", "--python", "--public-key") -notcontains $args[$index]) {
        Write-Output "usage: install.cmd [--to FOLDER] [--python PYTHON.EXE] [--public-key FILE]"
        exit 2
    }
    switch ($args[$index]) {
        "--to" { $to = $args[$index + 1] }
        "--python" { $python = $args[$index + 1] }
        "--public-key" { $key = $args[$index + 1] }
    }
}
$root = (Get-Item -LiteralPath $PSScriptRoot).FullName
if ($key) {
    $key = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($key)
    Test-Signature $root $key
}
$names = @(Test-Files $root)
$bundle = Get-Content -Raw -LiteralPath (Join-Path $root "bundle.json") | ConvertFrom-Json
$wanted = $bundle.python
if (-not $to) { $to = Join-Path $env:LOCALAPPDATA "wetread" }
# Without the last backslash, which would escape the quotation mark after it.
$to = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($to).TrimEnd("\")
$archives = @($names | Where-Object { $_ -like "python/*" })
$found = $null
$options = @()
if ($python) {
    if (-not (Test-Python @($python) $wanted)) { Stop-Install "--python must be a 64-bit Python $wanted, and $python is not." }
    $found = @($python)
} elseif ($archives.Count -gt 0) {
    if (Test-Path -LiteralPath $to) { Stop-Install "$to already exists. Delete it, or choose another folder with --to." }
    $place = Join-Path $to "python"
    New-Item -ItemType Directory -Force -Path $place | Out-Null
    & (Join-Path $env:SystemRoot "System32\tar.exe") -xf (Join-Path $root $archives[0].Replace("/", "\")) -C $place
    foreach ($name in "python.exe", "python\python.exe", "tools\python.exe") {
        $candidate = Join-Path $place $name
        if (Test-Path -LiteralPath $candidate) { $found = @($candidate); break }
    }
    if ($null -eq $found -or -not (Test-Python $found $wanted)) {
        Remove-Item -Recurse -Force -LiteralPath $to
        Stop-Install "The bundle's archive has no 64-bit Python $wanted that runs here. Ask for a bundle for this machine."
    }
    $options = @("--has-python")
} else {
    foreach ($candidate in @("py", "-$wanted"), @("python"), @("python3")) {
        if ((Get-Command $candidate[0] -ErrorAction SilentlyContinue) -and (Test-Python $candidate $wanted)) { $found = $candidate; break }
    }
    if ($null -eq $found) { Stop-Install "This machine has no 64-bit Python $wanted. Install one, name it with --python, or ask for a bundle with --python-archive." }
}
if ($key) { $options += @("--public-key", $key) }
$rest = @($found | Select-Object -Skip 1)
& $found[0] @rest -I (Join-Path $root "install.py") $to @options
$code = $LASTEXITCODE
if ($code -ne 0 -and $options -contains "--has-python") { Remove-Item -Recurse -Force -LiteralPath $to -ErrorAction SilentlyContinue }
exit $code

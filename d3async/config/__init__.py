"""Settings of one D3: option, then environment, then profile, then default, each with its origin.

`config.toml` in the user's config folder (or D3_CONFIG, --config):

    default_profile = "vsoc"

    [profiles.vsoc]
    base_url = "https://d3.example.com/ce_site/VSOC"
    username = "svc-runner"
    site = "Security Operations"
    rate = 45                         # or "auto"; every other setting by its name, durations as "90s"
    limit_url_file = "limit.url"      # or limit_url_env, limit_url_keyring: the database that shares the limit
    api_key_env = "VSOC_KEY"          # or api_key_file = "path", api_key_keyring = "entry"; jwt_…, jwt_secret_… alike

    [profiles.vsoc.keys]              # one command's own; also [profiles.vsoc.jwts] and [profiles.vsoc.jwt_secrets]
    CreateTask_env = "VSOC_CREATE"    # any case, create_task_env as well
    RemoveLinkedIncidents_file = "remove.key"

    [profiles.vsoc.files]             # how job files are read, as the options of those names; --save-mapping writes it
    map = ["Bearbeiter=assignee"]
    date_format = "dd.MM.yyyy HH:mm"

Paths in it are relative to it. `api_key = "…"` itself is accepted only in a file that no other user may read.
"""

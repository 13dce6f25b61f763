"""The only room that speaks aiohttp: one `ApiRequest` out, an `ApiResponse` or what is known of the failure back."""

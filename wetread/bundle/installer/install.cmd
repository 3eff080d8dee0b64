@echo off
rem Checks this folder's files, finds a Python, and lets install.py do the rest.
powershell -NoProfile -ExecutionPolicy Bypass -File "%~dp0install.ps1" %*
exit /b %ERRORLEVEL%

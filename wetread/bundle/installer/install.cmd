@echo off
rem Checks this folder's files, finds a Python, and runs install.py.
powershell -NoProfile -ExecutionPolicy Bypass -File "%~dp0install.ps1" %*
exit /b %ERRORLEVEL%
